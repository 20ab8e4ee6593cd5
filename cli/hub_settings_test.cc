#include "cli/hub_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "temp_dir.h"

namespace odmoe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<HubSettings> settings_of(const std::map<std::string, std::string>& variables) {
  return hub_settings([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(HubSettings, WithoutVariablesAreThoseOfTheHome) {
  const auto settings = settings_of({{"HOME", "/home/one"}});
  ASSERT_TRUE(settings.has_value());
  EXPECT_EQ(settings->pull.hub.endpoint, "https://huggingface.co");
  EXPECT_EQ(settings->pull.hub.token, "");
  EXPECT_EQ(settings->pull.cache, "/home/one/.cache/huggingface/hub");
  EXPECT_FALSE(settings->pull.offline);
  EXPECT_THAT(settings->folders.ollama,
              ElementsAre("/home/one/.ollama/models", "/usr/share/ollama/.ollama/models"));
  EXPECT_THAT(settings->folders.lm_studio,
              ElementsAre("/home/one/.lmstudio/models", "/home/one/.cache/lm-studio/models"));
}

TEST(HubSettings, TheCacheIsWhereHuggingfaceHubHasIt) {
  const std::map<std::string, std::string> home = {{"HOME", "/h"}};
  const auto cache = [&](std::map<std::string, std::string> variables) {
    variables.insert(home.begin(), home.end());
    return settings_of(variables)->pull.cache.string();
  };
  EXPECT_EQ(cache({{"XDG_CACHE_HOME", "/x"}}), "/x/huggingface/hub");
  EXPECT_EQ(cache({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "~/hf"}}), "/h/hf/hub");
  EXPECT_EQ(cache({{"HF_HOME", "/hf"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}), "/old");
  EXPECT_EQ(cache({{"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HUB_CACHE", "/new"}}), "/new");
}

TEST(HubSettings, WithoutAHomeThereHasToBeACache) {
  EXPECT_THAT(settings_of({}).error().message, HasSubstr("neither HF_HOME nor HOME"));
  EXPECT_EQ(settings_of({{"XDG_CACHE_HOME", "/var/cache/odmoe"}})->pull.cache,
            "/var/cache/odmoe/huggingface/hub");
}

TEST(HubSettings, TheTokenIsThatOfTheEnvironmentOrOfTheFile) {
  const testing::TempDir dir;
  dir.write("token", std::as_bytes(std::span(std::string_view("hf_file\n"))));
  const std::string home = dir.path().string();
  EXPECT_EQ(settings_of({{"HF_HOME", home}})->pull.hub.token, "hf_file");
  EXPECT_EQ(settings_of({{"HF_HOME", home}, {"HF_TOKEN", " hf_one\r\n"}})->pull.hub.token, "hf_one");
  EXPECT_EQ(settings_of({{"HF_HOME", home}, {"HUGGING_FACE_HUB_TOKEN", "hf_two"}})->pull.hub.token, "hf_two");
  EXPECT_EQ(settings_of({{"HF_HOME", home}, {"HF_TOKEN_PATH", home + "/none"}})->pull.hub.token, "");
  EXPECT_EQ(settings_of({{"HF_HOME", home}, {"HF_TOKEN", "x"}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}})
                ->pull.hub.token,
            "");
  EXPECT_THAT(settings_of({{"HF_TOKEN", "a\r\nHost: b"}}).error().message,
              HasSubstr("HF_TOKEN holds something that is not a token"));
}

TEST(HubSettings, OtherHubsCertificatesAndFoldersAreTaken) {
  const auto settings = settings_of({{"HOME", "/h"},
                                     {"HF_ENDPOINT", "https://mirror.example/"},
                                     {"HF_HUB_OFFLINE", "yes"},
                                     {"SSL_CERT_FILE", "/certs.pem"},
                                     {"OLLAMA_MODELS", "/models"}});
  ASSERT_TRUE(settings.has_value());
  EXPECT_EQ(settings->pull.hub.endpoint, "https://mirror.example");
  EXPECT_TRUE(settings->pull.offline);
  EXPECT_EQ(settings->curl.certificates, "/certs.pem");
  EXPECT_THAT(settings->folders.ollama, ElementsAre("/models"));
  EXPECT_FALSE(settings_of({{"HOME", "/h"}, {"HF_HUB_OFFLINE", "0"}})->pull.offline);
  EXPECT_THAT(settings_of({{"HF_ENDPOINT", "ftp://h"}}).error().message,
              HasSubstr("HF_ENDPOINT is 'ftp://h'"));
}

}  // namespace
}  // namespace odmoe::cli
