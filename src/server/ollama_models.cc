#include "server/ollama_models.h"

#include <algorithm>
#include <cctype>
#include <span>
#include <string>
#include <utility>

#include "base/sha256.h"
#include "odmoe/format.h"
#include "server/fields.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

// When the model was made is not known, and it never goes.
constexpr const char* kNoTime = "1970-01-01T00:00:00Z";
constexpr const char* kNever = "9999-12-31T23:59:59Z";

std::string tagged(std::string_view id) {
  return id.contains(':') ? std::string(id) : odmoe::format("{}:latest", id);
}

Json details_of(const ServedModel* model) {
  Json details = {{"parent_model", ""}, {"format", "gguf"},     {"family", ""},
                  {"families", Json()}, {"parameter_size", ""}, {"quantization_level", ""}};
  if (model == nullptr) return details;
  const ModelInfo& info = model->engine->model();
  details["family"] = info.architecture;
  details["families"] = Json::array({info.architecture});
  if (!info.bytes_per_type.empty()) {
    std::string type = info.bytes_per_type.front().first;
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::toupper(c); });
    details["quantization_level"] = type;
  }
  return details;
}

Json entry_of(std::string_view id, const ServedModel* model) {
  const uint64_t bytes = model != nullptr ? model->engine->model().file_bytes : 0;
  // Clients show its beginning: it tells models apart, and is of their names rather than of their files.
  const std::string named = odmoe::format("odmoe model {} {}", id, bytes);
  return {{"name", tagged(id)},
          {"model", tagged(id)},
          {"modified_at", kNoTime},
          {"size", bytes},
          {"digest", sha256_hex(std::as_bytes(std::span(named)))},
          {"details", details_of(model)}};
}

Json list_of(Json entry) { return {{"models", Json::array({std::move(entry)})}}; }

Json model_info_of(const ServedModel& model) {
  const ModelInfo& info = model.engine->model();
  Json json = {{"general.architecture", info.architecture}, {"general.basename", info.name}};
  const auto add = [&](const char* name, int64_t value) {
    json[odmoe::format("{}.{}", info.architecture, name)] = value;
  };
  add("block_count", info.n_layer);
  add("context_length", model.context);  // what fits here, of which clients ask
  add("embedding_length", info.n_embd);
  add("expert_count", info.n_expert);
  add("expert_used_count", info.n_expert_used);
  add("attention.head_count", info.n_head);
  add("attention.head_count_kv", info.n_head_kv);
  add("vocab_size", info.n_vocab);
  return json;
}

Json capabilities_of(const ServedModel& model) {
  Json list = Json::array({"completion"});
  if (!model.chat_template.has_value()) return list;
  if (model.output.format->calls) list.push_back("tools");
  if (model.output.thinks) list.push_back("thinking");
  if (model.sees_images) list.push_back("vision");
  return list;
}

}  // namespace

Body ollama_tags(std::string_view id, const ServedModel* model) {
  return {.text = dump_json(list_of(entry_of(id, model))) + "\n"};
}

Body ollama_running(std::string_view id, const ServedModel* model) {
  if (model == nullptr) return {.text = "{\"models\":[]}\n"};
  Json entry = entry_of(id, model);
  entry.erase("modified_at");
  entry["size"] = model->engine->plan().budget_bytes;  // what it takes while it runs
  entry["expires_at"] = kNever;
  entry["size_vram"] = model->engine->plan().device.bytes();
  entry["context_length"] = model->context;
  return {.text = dump_json(list_of(std::move(entry))) + "\n"};
}

ApiResult<Body> answer_ollama_show(std::string_view id, const ServedModel& model, std::string_view body,
                                   RequestWork& work) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_json(body, work));
  if (!json.is_object()) return bad_request("", "the body must be a JSON object");
  const Fields fields(json);
  std::string name;
  for (const char* key : {"name", "model"}) ODMOE_RETURN_IF_ERROR(fields.read(key, name));
  if (name != id && name != tagged(id)) {
    return std::unexpected(
        ApiError{.status = 404,
                 .fault = Fault::kRequest,
                 .message = odmoe::format("model '{}' not found: there is only {}", name.substr(0, 128), id),
                 .param = "model",
                 .code = "model_not_found"});
  }
  const Json shown = {{"license", ""},
                      {"modelfile", odmoe::format("FROM {}\nPARAMETER num_ctx {}\n", id, model.context)},
                      {"parameters", odmoe::format("num_ctx {}", model.context)},
                      {"template", model.chat_template.has_value() ? (*model.chat_template)->source() : ""},
                      {"details", details_of(&model)},
                      {"model_info", model_info_of(model)},
                      {"capabilities", capabilities_of(model)},
                      {"modified_at", kNoTime}};
  return Body{.text = dump_json(shown) + "\n"};
}

}  // namespace odmoe::server
