// What the environment says of hubs and of models on this disk.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "hub/curl_http.h"
#include "hub/local_models.h"
#include "hub/pull.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// A variable's value; nothing where it is not set or empty.
using Environment = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> process_environment(const char* name);

struct HubSettings {
  hub::PullOptions pull;
  hub::CurlOptions curl;
  hub::LocalFolders folders;
};

// HF_TOKEN and the token file, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, as huggingface_hub reads
// them; OLLAMA_MODELS; SSL_CERT_FILE, CURL_CA_BUNDLE, REQUESTS_CA_BUNDLE.  kUsage where one cannot be what it
// says.
Result<HubSettings> hub_settings(const Environment& environment = process_environment);

}  // namespace odmoe::cli
