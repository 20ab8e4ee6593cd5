// Filters that apply another filter or a test to each item, when the item is asked for.
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/filter_functions.h"
#include "jinja/tests.h"

namespace odmoe::jinja {
namespace {

// What is left of the arguments behind the first `n`.
Arguments without_first(const Arguments& arguments, size_t n) {
  Arguments rest{.positional = {}, .named = arguments.named};
  rest.positional.assign(arguments.positional.begin() + static_cast<ptrdiff_t>(n),
                         arguments.positional.end());
  return rest;
}

// Items of a source that is looked at only when the first one is asked for; nothing where it is empty or
// None.
struct LazyItems : Iterator {
  LazyItems(const Value& the_source, Arguments the_arguments)
      : Iterator("generator", the_source), source(the_source), arguments(std::move(the_arguments)) {}

  virtual void prepare() = 0;

  std::optional<Value> next_item(Heap& heap) {
    if (!items) {
      if (!truth(source)) return std::nullopt;
      prepare();
      items.emplace(heap, source);
    }
    return items->next();
  }

  Value source;
  Arguments arguments;
  std::optional<Items> items;
};

struct Mapped : LazyItems {
  using LazyItems::LazyItems;

  void prepare() override {
    if (!arguments.positional.empty()) {
      const Value& name = arguments.positional[0];
      filter = name.is_text() ? find_filter(name.view()) : nullptr;
      if (filter == nullptr) {
        raise(FailureKind::kRuntime, "No filter named '{}' found.",
              name.is_text() ? name.view() : type_name(name));
      }
      arguments = without_first(arguments, 1);
      return;
    }
    for (const auto& [name, value] : arguments.named) {
      if (name.view() == "attribute") {
        attribute = value;
      } else if (name.view() == "default") {
        fallback = value;
      } else {
        raise(FailureKind::kType, "Unexpected keyword argument '{}'", name.view());
      }
    }
    if (attribute.is_nothing()) raise(FailureKind::kType, "map requires a filter argument");
  }

  std::optional<Value> next(Heap& heap) override {
    auto item = next_item(heap);
    if (!item) return std::nullopt;
    if (filter != nullptr) return filter(heap, *item, arguments);
    return get_path(heap, *item, attribute, fallback);
  }

  FilterFunction filter = nullptr;
  Value attribute, fallback;
};

struct Selected : LazyItems {
  Selected(const Value& the_source, Arguments the_arguments, bool is_selected, bool has_attribute)
      : LazyItems(the_source, std::move(the_arguments)), selected(is_selected), by_attribute(has_attribute) {}

  void prepare() override {
    if (by_attribute) {
      if (arguments.positional.empty()) raise(FailureKind::kType, "Missing parameter for attribute name");
      attribute = arguments.positional[0];
      arguments = without_first(arguments, 1);
    }
    if (arguments.positional.empty()) return;
    const Value& name = arguments.positional[0];
    test = name.is_text() ? find_test(name.view()) : nullptr;
    if (test == nullptr) {
      raise(FailureKind::kRuntime, "No test named '{}' found.",
            name.is_text() ? name.view() : type_name(name));
    }
    arguments = without_first(arguments, 1);
  }

  std::optional<Value> next(Heap& heap) override {
    while (auto item = next_item(heap)) {
      const Value value = get_path(heap, *item, attribute);
      const bool passes = test == nullptr ? truth(value) : test(heap, value, arguments);
      if (passes == selected) return item;
    }
    return std::nullopt;
  }

  bool selected, by_attribute;
  TestFunction test = nullptr;
  Value attribute;
};

}  // namespace

Value filter_map(Heap& heap, const Value& value, const Arguments& arguments) {
  return heap.make<Mapped>(value, arguments);
}
Value filter_select(Heap& heap, const Value& value, const Arguments& arguments) {
  return heap.make<Selected>(value, arguments, /*is_selected=*/true, /*has_attribute=*/false);
}
Value filter_reject(Heap& heap, const Value& value, const Arguments& arguments) {
  return heap.make<Selected>(value, arguments, /*is_selected=*/false, /*has_attribute=*/false);
}
Value filter_selectattr(Heap& heap, const Value& value, const Arguments& arguments) {
  return heap.make<Selected>(value, arguments, /*is_selected=*/true, /*has_attribute=*/true);
}
Value filter_rejectattr(Heap& heap, const Value& value, const Arguments& arguments) {
  return heap.make<Selected>(value, arguments, /*is_selected=*/false, /*has_attribute=*/true);
}

}  // namespace odmoe::jinja
