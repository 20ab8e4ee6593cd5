#include "format/not_gguf.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <string_view>
#include <system_error>

#include "format/printable.h"

namespace odmoe {
namespace {

bool begins_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::ranges::equal(text.substr(0, prefix.size()), prefix, [](unsigned char a, unsigned char b) {
           return std::tolower(a) == std::tolower(b);
         });
}

// A safetensors file: the length of a JSON object in 8 bytes, then the object.
bool is_safetensors(std::string_view head) {
  if (head.size() < 9 || head[8] != '{') return false;
  return head.substr(5, 3) == std::string_view("\0\0\0", 3);  // no header is longer than a TiB
}

bool is_text(std::string_view head) {
  return std::ranges::all_of(
      head, [](unsigned char c) { return c >= 0x20 || c == '\n' || c == '\r' || c == '\t'; });
}

}  // namespace

Error not_gguf_error(std::span<const std::byte> bytes, const std::string& name) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min(bytes.size(), kSniffBytes));
  const auto bad = [&](std::string_view what) {
    return Error{ErrorKind::kBadFile, odmoe::format("{} {}", name, what)};
  };
  if (head.empty()) return bad("is empty: download it again");
  if (head.starts_with("version https://git-lfs")) {
    return bad("is a Git LFS pointer, not the model itself: fetch it with `git lfs pull`");
  }
  std::string_view text = head;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text[0])) != 0) text.remove_prefix(1);
  if (begins_with_ignoring_case(text, "<!doctype") || begins_with_ignoring_case(text, "<html") ||
      begins_with_ignoring_case(text, "<?xml")) {
    return bad(
        "is a web page, not a model: the download went wrong; check its address and download it again");
  }
  if (is_safetensors(head)) {
    return bad("is a safetensors file: give the folder it is in to `odmoe convert` and run what that makes");
  }
  if (head.starts_with("PK\x03\x04")) {
    return bad(
        "is a zip archive, perhaps a PyTorch checkpoint: give a GGUF, made with llama.cpp's "
        "convert_hf_to_gguf.py");
  }
  if (head.starts_with("\x80\x02") && head.size() > 2) {
    return bad(
        "is a Python pickle, perhaps a PyTorch checkpoint: give a GGUF, made with llama.cpp's "
        "convert_hf_to_gguf.py");
  }
  if (head.starts_with("\x1F\x8B") || head.starts_with("\x28\xB5\x2F\xFD") ||
      head.starts_with("\xFD"
                       "7zXZ")) {
    return bad("is compressed: decompress it first");
  }
  if (head.starts_with("lmgg") || head.starts_with("fmgg") || head.starts_with("tjgg")) {
    return bad("is in the GGML format that came before GGUF: download the model as GGUF");
  }
  if (head.starts_with("FUGG")) return bad("is a GGUF with its bytes swapped: download it again");
  if (std::ranges::all_of(head, [](char c) { return c == '\0'; })) {
    return bad("begins with zeros: an unfinished download; download it again");
  }
  if (is_text(head)) {
    return bad(
        odmoe::format("is text, not a model; it begins '{}': check where it came from", printable(head, 40)));
  }
  return bad("is not a GGUF file: it does not begin with 'GGUF'; give a GGUF model");
}

Error directory_error(const std::filesystem::path& path) {
  std::string found;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".gguf") continue;
    const std::string name = it->path().filename().string();
    if (found.empty() || name < found) found = name;
  }
  const std::string name = printable(path.string(), 400);
  if (found.empty() && std::filesystem::exists(path / "config.json", error)) {
    return {ErrorKind::kBadFile,
            odmoe::format(
                "{} is a checkpoint of Hugging Face: make a model of it with `odmoe convert {} OUT`, and "
                "run that",
                name, name)};
  }
  if (found.empty()) {
    return {ErrorKind::kBadFile,
            odmoe::format("{} is a directory without a GGUF in it: give a GGUF file", name)};
  }
  return {ErrorKind::kBadFile, odmoe::format("{} is a directory: give the file, perhaps {}", name,
                                             printable((path / found).string(), 400))};
}

}  // namespace odmoe
