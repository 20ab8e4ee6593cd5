#include "cli/hub_settings.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "base/whole_file.h"
#include "hub/url.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTokenBytes = 4096;

std::string trimmed_text(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

class Reader {
 public:
  explicit Reader(const Environment& environment)
      : environment_(environment), home_(environment("HOME").value_or("")) {
    const fs::path caches = environment("XDG_CACHE_HOME").value_or((home_ / ".cache").string());
    hf_home_ = path("HF_HOME").value_or(caches / "huggingface");
  }

  // The first of these that is set.
  template <size_t N>
  std::optional<std::string> first(const std::array<const char*, N>& names) const {
    for (const char* name : names) {
      if (auto value = environment_(name)) return value;
    }
    return std::nullopt;
  }
  std::optional<fs::path> path(const char* name) const {
    const auto value = environment_(name);
    if (!value) return std::nullopt;
    if (*value == "~") return home_;
    if (value->starts_with("~/")) return home_ / value->substr(2);
    return fs::path(*value);
  }
  bool is_set(const char* name) const {
    std::string value = environment_(name).value_or("");
    std::ranges::transform(value, value.begin(), [](char c) {
      return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    });
    return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
  }

  fs::path cache() const {
    if (auto named = path("HF_HUB_CACHE")) return *named;
    if (auto named = path("HUGGINGFACE_HUB_CACHE")) return *named;
    return hf_home_ / "hub";
  }

  Result<std::string> token() const {
    if (is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return std::string();
    std::string where = "HF_TOKEN", token;
    if (const auto named = first(std::array{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})) {
      token = trimmed_text(*named);
    } else {
      const fs::path file = path("HF_TOKEN_PATH").value_or(hf_home_ / "token");
      where = file.string();
      const auto text = read_whole_text(file, kMaxTokenBytes);
      if (!text.has_value()) {
        return text.error().kind == ErrorKind::kNotFound ? Result<std::string>("")
                                                         : std::unexpected(text.error());
      }
      token = trimmed_text(*text);
    }
    const bool plain = std::ranges::all_of(token, [](char c) { return c > ' ' && c < '\x7F'; });
    if (plain) return token;
    return fail(ErrorKind::kUsage,
                "{} holds something that is not a token: it has spaces or control characters", where);
  }

  Result<std::string> endpoint() const {
    std::string url = environment_("HF_ENDPOINT").value_or(hub::HubOptions().endpoint);
    while (url.ends_with('/')) url.pop_back();
    if (!hub::origin_of(url).has_value()) {
      return fail(ErrorKind::kUsage, "HF_ENDPOINT is '{}', which is not a URL of http or https", url);
    }
    return url;
  }

  const fs::path& home() const { return home_; }

 private:
  const Environment& environment_;
  fs::path home_, hf_home_;
};

}  // namespace

std::optional<std::string> process_environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

Result<HubSettings> hub_settings(const Environment& environment) {
  const Reader reader(environment);
  HubSettings settings;
  ODMOE_ASSIGN_OR_RETURN(settings.pull.hub.endpoint, reader.endpoint());
  ODMOE_ASSIGN_OR_RETURN(settings.pull.hub.token, reader.token());
  settings.pull.cache = reader.cache();
  if (reader.home().empty() && settings.pull.cache.is_relative()) {
    return fail(ErrorKind::kUsage, "neither HF_HOME nor HOME says where models are kept: set one of them");
  }
  settings.pull.offline = reader.is_set("HF_HUB_OFFLINE") || reader.is_set("TRANSFORMERS_OFFLINE");
  settings.curl.user_agent = "odmoe/" ODMOE_VERSION;
  settings.curl.certificates =
      reader.first(std::array{"CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}).value_or("");
  settings.folders.hub_cache = settings.pull.cache;
  if (const auto models = reader.path("OLLAMA_MODELS")) {
    settings.folders.ollama = {*models};
  } else {
    // One's own, and that of the service that Ollama's installer makes.
    settings.folders.ollama = {reader.home() / ".ollama/models", "/usr/share/ollama/.ollama/models"};
  }
  settings.folders.lm_studio = {reader.home() / ".lmstudio/models",
                                reader.home() / ".cache/lm-studio/models"};
  return settings;
}

}  // namespace odmoe::cli
