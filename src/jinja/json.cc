#include "jinja/json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "jinja/arguments.h"
#include "jinja/compare.h"
#include "jinja/show.h"
#include "jinja/unicode.h"
#include "odmoe/format.h"

namespace odmoe::jinja {
namespace {

using Json = nlohmann::ordered_json;

class Reader {
 public:
  Reader(Heap& heap, bool said, const OwnText& own) : heap_(heap), said_(said), own_(own) {}

  Value read(const Json& json, std::string_view key, int depth) {
    if (depth > kMaxValueDepth) raise(FailureKind::kLimit, "values hold each other too deeply");
    switch (json.type()) {
      case Json::value_t::boolean:
        return {json.get<bool>(), said_};
      case Json::value_t::number_unsigned:
      case Json::value_t::number_integer:
        if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
          return Value::big(json.get<uint64_t>(), said_);
        }
        return {json.get<int64_t>(), said_};
      case Json::value_t::number_float:
        return {json.get<double>(), said_};
      case Json::value_t::string: {
        const auto& text = json.get_ref<const std::string&>();
        return said_ && own_ ? read_text(text, own_(key, text)) : read_text(text, said_);
      }
      case Json::value_t::array: {
        std::vector<Value> items;
        items.reserve(json.size());
        for (const Json& item : json) items.push_back(read(item, "", depth + 1));
        return make_list(heap_, std::move(items));
      }
      case Json::value_t::object: {
        Dict* dict = heap_.make<Dict>();
        for (const auto& [name, value] : json.items()) {
          Value held = read(value, name, depth + 1);
          dict->set(heap_, read_text(name, said_), std::move(held));
        }
        return dict;
      }
      default:
        return Value::none();
    }
  }

 private:
  Value read_text(std::string_view text, bool said) { return TextBuilder(heap_).add(text, said).take(); }
  Value read_text(std::string_view text, const std::vector<Span>& own) {
    TextBuilder out(heap_);
    size_t done = 0;
    for (const Span& span : own) {
      out.add(text.substr(done, span.begin - done), /*said=*/true);
      out.own(text.substr(span.begin, span.end - span.begin));
      done = span.end;
    }
    return out.add(text.substr(done), /*said=*/true).take();
  }

  Heap& heap_;
  bool said_;
  const OwnText& own_;
};

class Dumper {
 public:
  Dumper(Heap& heap, const DumpOptions& options) : heap_(heap), options_(options), out_(heap) {
    if (options.indent.is_text()) {
      indent_ = options.indent.text();
    } else if (!options.indent.is_none()) {
      const int64_t width = std::max<int64_t>(as_index(options.indent), 0);
      if (width > 1000) raise(FailureKind::kLimit, "indents by more than 1000 spaces");
      indent_ = Text::own(std::string(static_cast<size_t>(width), ' '));
    }
    lines_ = !options.indent.is_none();
    item_separator_ =
        options.item_separator.is_text() ? options.item_separator.text() : Text::own(lines_ ? "," : ", ");
    key_separator_ = options.key_separator.is_text() ? options.key_separator.text() : Text::own(": ");
  }

  Text dump(const Value& value) {
    append(value, 0);
    return out_.take();
  }

 private:
  void append(const Value& value, int depth) {
    heap_.work(1);
    if (value.is_text()) return text(value.text());
    if (value.is_none()) {
      out_.own("null");
    } else if (value.is_number()) {
      out_.add(number(value), value.number_said());
    } else if (const List* list = value.list()) {
      items(*list, depth);
    } else if (const Dict* dict = value.dict()) {
      entries(*dict, depth);
    } else {
      raise(FailureKind::kType, "Object of type {} is not JSON serializable", type_name(value));
    }
  }

  static std::string number(const Value& value) {
    if (value.is_bool()) return value.boolean() ? "true" : "false";
    if (!value.is_float()) return integer_text(value);
    const double real = value.real();
    if (std::isnan(real)) return "NaN";
    if (std::isinf(real)) return real < 0 ? "-Infinity" : "Infinity";
    return float_repr(real);
  }

  void line(int depth) {
    if (!lines_) return;
    out_.own("\n");
    for (int i = 0; i < depth; ++i) out_.add(indent_);
  }

  void items(const List& list, int depth) {
    if (list.items.empty()) {
      out_.own("[]");
      return;
    }
    out_.own("[");
    bool first = true;
    for (const Value& item : list.items) {
      if (!first) out_.add(item_separator_);
      first = false;
      line(depth + 1);
      append(item, depth + 1);
    }
    line(depth);
    out_.own("]");
  }

  void entries(const Dict& dict, int depth) {
    if (dict.entries.empty()) {
      out_.own("{}");
      return;
    }
    std::vector<const std::pair<Value, Value>*> order;
    order.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (options_.sort_keys) {
      heap_.work(order.size());
      std::ranges::stable_sort(order, [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    out_.own("{");
    bool first = true;
    for (const auto* entry : order) {
      if (!first) out_.add(item_separator_);
      first = false;
      line(depth + 1);
      key(entry->first);
      out_.add(key_separator_);
      append(entry->second, depth + 1);
    }
    line(depth);
    out_.own("}");
  }

  void key(const Value& key) {
    if (key.is_text()) return text(key.text());
    if (!key.is_none() && !key.is_number()) {
      raise(FailureKind::kType, "keys must be str, int, float, bool or None, not {}", type_name(key));
    }
    out_.own("\"").add(key.is_none() ? "null" : number(key), key.number_said()).own("\"");
  }

  void text(const Text& text) {
    const std::string_view bytes = text.view();
    out_.own("\"");
    size_t done = 0;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = char_size(bytes, at);
      const std::string escaped = escape_char(bytes, at);
      if (!escaped.empty()) {
        out_.add(text, done, at).become(text, at, escaped);
        done = at + size;
      }
      at += size;
    }
    out_.add(text, done, bytes.size()).own("\"");
  }

  // Empty: it stands as it is.
  std::string escape_char(std::string_view bytes, size_t at) const {
    switch (bytes[at]) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    const uint32_t c = code_point_at(bytes, at);
    if (c < 0x20 || (options_.ensure_ascii && c >= 0x7F && c < 0x10000)) return odmoe::format("\\u{:04x}", c);
    if (!options_.ensure_ascii || c < 0x7F) return {};
    const uint32_t rest = c - 0x10000;
    return odmoe::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10U), 0xDC00 + (rest & 0x3FFU));
  }

  Heap& heap_;
  const DumpOptions& options_;
  TextBuilder out_;
  Text indent_, item_separator_, key_separator_;
  bool lines_ = false;
};

}  // namespace

Value said_value(Heap& heap, const Json& json, const OwnText& own) {
  return Reader(heap, /*said=*/true, own).read(json, "", 0);
}

Value own_value(Heap& heap, const Json& json) {
  static const OwnText kNone;
  return Reader(heap, /*said=*/false, kNone).read(json, "", 0);
}

Text dump_json(Heap& heap, const Value& value, const DumpOptions& options) {
  return Dumper(heap, options).dump(value);
}

}  // namespace odmoe::jinja
