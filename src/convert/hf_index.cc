#include "convert/hf_index.h"

#include <map>
#include <nlohmann/json.hpp>

#include "format/printable.h"

namespace odmoe {
namespace {

// A name that stays in the checkpoint's folder.
bool is_shard_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.size() <= 255 && name.find('/') == std::string_view::npos &&
         name.find('\\') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

class IndexReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexReader(const std::string& name) : name_(name) {}

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(int64_t) override { return other(); }
  bool number_unsigned(uint64_t) override { return other(); }
  bool number_float(double, const std::string&) override { return other(); }
  bool binary(nlohmann::json::binary_t&) override { return other(); }
  bool string(std::string& text) override {
    if (!in_map_) return other();
    if (!is_shard_name(text)) {
      return bad(odmoe::format("says that tensor '{}' is in '{}', which is not a name of a .safetensors file",
                               printable(key_), printable(text)));
    }
    auto [it, added] = shard_of_.emplace(std::move(text), static_cast<int>(index_.shards.size()));
    if (added) index_.shards.push_back(it->first);
    if (index_.shards.size() > kMaxHfShards)
      return bad(odmoe::format("lists more than {} files", kMaxHfShards));
    if (index_.tensors.size() == kMaxHfTensors) {
      return bad(odmoe::format("lists more than {} tensors", kMaxHfTensors));
    }
    index_.tensors.emplace_back(std::move(key_), it->second);
    return true;
  }
  bool start_object(size_t) override {
    if (in_map_) return other();
    in_map_ = depth_ == 1 && key_ == "weight_map";
    has_map_ = has_map_ || in_map_;
    return ++depth_ < kMaxDepth || bad("is nested too deep");
  }
  bool end_object() override {
    --depth_;
    in_map_ = false;
    return true;
  }
  bool start_array(size_t) override {
    if (in_map_) return other();
    return ++depth_ < kMaxDepth || bad("is nested too deep");
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& text) override {
    if (depth_ == 1 || in_map_) key_ = std::move(text);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return bad(odmoe::format("is not JSON at byte {}", position));
  }

  Result<HfIndex> finish(bool parsed) {
    if (parsed && !has_map_) bad("has no weight_map");
    if (!error_.message.empty()) return std::unexpected(std::move(error_));
    return std::move(index_);
  }

 private:
  static constexpr int kMaxDepth = 64;

  bool other() {
    if (!in_map_) return true;
    return bad(odmoe::format("gives no file name for tensor '{}'", printable(key_)));
  }
  bool bad(const std::string& what) {
    error_ = {ErrorKind::kBadFile, odmoe::format("{} {}: it is damaged; download it again", name_, what)};
    return false;
  }

  const std::string& name_;
  HfIndex index_;
  std::map<std::string, int> shard_of_;
  Error error_{ErrorKind::kBadFile, {}};
  std::string key_;
  int depth_ = 0;
  bool in_map_ = false, has_map_ = false;
};

}  // namespace

Result<HfIndex> parse_hf_index(std::string_view text, const std::string& name) {
  IndexReader reader(name);
  const bool parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.finish(parsed);
}

}  // namespace odmoe
