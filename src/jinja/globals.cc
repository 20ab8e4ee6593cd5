#include "jinja/globals.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jinja/arguments.h"
#include "jinja/show.h"

namespace odmoe::jinja {
namespace {

using BuiltInFunction = std::function<Value(Heap&, Arguments&)>;

struct BuiltIn : Callable {
  BuiltIn(std::string_view the_name, BuiltInFunction the_function)
      : Callable("function", the_name), function(std::move(the_function)) {}
  Value call(Heap& heap, Arguments& arguments) override { return function(heap, arguments); }
  BuiltInFunction function;
};

Value make_range(Heap& heap, Arguments& arguments) {
  const Bound bound("range", arguments, {"", "", ""}, 1);
  constexpr int64_t kMost = int64_t{1} << 53;
  constexpr size_t kMaxItems = 100'000;  // as in jinja2's sandbox
  const auto part = [&](size_t index, int64_t fallback) {
    const int64_t value = bound.integer_or(index, fallback);
    if (value > kMost || value < -kMost) raise(FailureKind::kLimit, "range() takes numbers up to 2^53");
    return value;
  };
  const bool from_zero = !bound.has(1);
  const int64_t step = part(2, 1);
  if (step == 0) raise(FailureKind::kValue, "range() arg 3 must not be zero");
  Range* range = heap.make<Range>(from_zero ? 0 : part(0, 0), part(from_zero ? 0 : 1, 0), step);
  if (range->size() > kMaxItems) {
    raise(FailureKind::kValue, "Range too big. The sandbox blocks ranges larger than {}.", kMaxItems);
  }
  return range;
}

// dict(mapping or pairs, name=value...)
Dict* make_dict(Heap& heap, const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    raise(FailureKind::kType, "dict expected at most 1 argument, got {}", arguments.positional.size());
  }
  Dict* made = heap.make<Dict>();
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (const Dict* dict = source.dict()) {
      for (const auto& [key, value] : dict->entries) made->set(heap, key, value);
    } else {
      Items items(heap, source);
      while (const auto item = items.next()) {
        const std::vector<Value> pair = all_items(heap, *item);
        if (pair.size() != 2)
          raise(FailureKind::kValue, "dictionary update sequence element must have 2 items");
        made->set(heap, pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) made->set(heap, name, value);
  return made;
}

Value make_namespace(Heap& heap, Arguments& arguments) {
  Namespace* space = heap.make<Namespace>();
  if (!arguments.positional.empty()) {
    Arguments unnamed{.positional = arguments.positional, .named = {}};
    for (const auto& [key, value] : make_dict(heap, unnamed)->entries) {
      if (key.is_text()) space->set(heap, key.view(), value);
    }
  }
  for (const auto& [name, value] : arguments.named) space->set(heap, name.view(), value);
  return space;
}

// Gives its items one after the other, over and over.
struct Cycler : Members {
  explicit Cycler(std::vector<Value> the_items) : Members("Cycler"), items(std::move(the_items)) {}

  std::optional<Value> member(Heap& heap, std::string_view name) override {
    if (name == "current") return items[at];
    if (name == "pos") return Value::integer(at);
    if (name == "next") {
      return heap.make<BuiltIn>("next", [this](Heap&, Arguments&) {
        const Value item = items[at];
        at = (at + 1) % items.size();
        return item;
      });
    }
    if (name == "reset") {
      return heap.make<BuiltIn>("reset", [this](Heap&, Arguments&) {
        at = 0;
        return Value::none();
      });
    }
    return std::nullopt;
  }

  std::vector<Value> items;
  size_t at = 0;
};

Value make_cycler(Heap& heap, Arguments& arguments) {
  if (!arguments.named.empty() || arguments.positional.empty()) {
    raise(FailureKind::kRuntime, "at least one item has to be provided");
  }
  return heap.make<Cycler>(arguments.positional);
}

// Gives nothing the first time, and then what separates.
Value make_joiner(Heap& heap, Arguments& arguments) {
  const Bound bound("joiner", arguments, {"sep"});
  return heap.make<BuiltIn>(
      "joiner",
      [separator = bound.value_or(0, Text::own(", ")), used = false](Heap&, Arguments&) mutable -> Value {
        if (std::exchange(used, true)) return separator;
        return Text();
      });
}

Value raise_exception(Heap& heap, Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"}, 1);
  throw Failure(FailureKind::kRaised, std::string(to_text(heap, bound[0]).view()), 0);
}

// Python's datetime.now() knows no zone, and this one no microseconds.
std::string without_zone(std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    out += format[i];
    if (format[i] != '%' || i + 1 == format.size()) continue;
    const std::string_view rest = format.substr(++i);
    const bool colon = rest.starts_with(":z");
    if (rest[0] == 'f' || rest[0] == 'z' || rest[0] == 'Z' || colon) {
      out.pop_back();
      if (rest[0] == 'f') out += "000000";
      i += colon ? 1 : 0;
    } else {
      out += rest[0];
    }
  }
  return out;
}

Value format_time(const Arguments& arguments, const std::tm& now) {
  const Bound bound("strftime_now", arguments, {"format"}, 1);
  const std::string format = without_zone(bound.text(0).view());
  std::array<char, 1024> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &now);
  return Text::own({buffer.data(), size});
}

}  // namespace

Value find_global(Heap& heap, std::string_view name, const std::tm& now) {
  using Make = Value (*)(Heap&, Arguments&);
  constexpr std::pair<std::string_view, Make> kFunctions[] = {
      {"cycler", make_cycler},
      {"dict", [](Heap& h, Arguments& arguments) -> Value { return make_dict(h, arguments); }},
      {"joiner", make_joiner},
      {"namespace", make_namespace},
      {"raise_exception", raise_exception},
      {"range", make_range},
  };
  const auto* found = std::ranges::find(kFunctions, name, &std::pair<std::string_view, Make>::first);
  if (found != std::end(kFunctions)) return heap.make<BuiltIn>(name, found->second);
  if (name == "strftime_now") {
    return heap.make<BuiltIn>(name,
                              [&now](Heap&, Arguments& arguments) { return format_time(arguments, now); });
  }
  return {};
}

}  // namespace odmoe::jinja
