// The values of templates: Python's None, bool, int (of 64 bits), float, str, list, tuple and dict, and what
// jinja2 adds.  Nothing else can be reached from a template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "jinja/failure.h"
#include "jinja/heap.h"
#include "jinja/text.h"

namespace odmoe::jinja {

struct Arguments;
struct Callable;
struct Dict;
struct Iterator;
struct List;
struct Members;
struct Range;
struct Undefined;
struct View;

// Cheap to copy.  Text counts its holders, all other objects belong to the heap.
//
// Numbers remember whether they came from the conversation, as text does, so that their digits do too.
class Value {
 public:
  struct Nothing {};  // not even undefined: a variable before it is set, an argument that is not given
  struct None {};

  Value() = default;
  Value(None) : data_(None{}) {}  // NOLINT(google-explicit-constructor): as literals of Python are
  Value(bool value, bool said = false) : data_(value), said_(said) {}
  Value(int64_t value, bool said = false) : data_(value), said_(said) {}
  Value(double value, bool said = false) : data_(value), said_(said) {}
  Value(Text text) : data_(std::move(text)) {}
  Value(Undefined* object) : data_(object) {}
  Value(List* object) : data_(object) {}
  Value(Dict* object) : data_(object) {}
  Value(View* object) : data_(object) {}
  Value(Range* object) : data_(object) {}
  Value(Iterator* object) : data_(object) {}
  Value(Members* object) : data_(object) {}
  Value(Callable* object) : data_(object) {}
  // An integer between 2^63 and 2^64, which JSON may have: it can be shown and compared.
  static Value big(uint64_t value, bool said) {
    Value result(false, said);
    result.data_ = value;
    return result;
  }
  static Value none() { return None{}; }
  Value(const char*) = delete;  // would become a bool
  static Value integer(size_t value) { return static_cast<int64_t>(value); }

  bool is_nothing() const { return std::holds_alternative<Nothing>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_text() const { return std::holds_alternative<Text>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_big() const { return std::holds_alternative<uint64_t>(data_); }
  bool is_undefined() const { return std::holds_alternative<Undefined*>(data_); }
  // As Python's isinstance(value, int) and numbers.Number have it: bools are both.
  bool is_integer() const { return is_bool() || is_big() || std::holds_alternative<int64_t>(data_); }
  bool is_number() const { return is_integer() || is_float(); }

  const Text& text() const { return std::get<Text>(data_); }
  std::string_view view() const { return text().view(); }
  bool boolean() const { return std::get<bool>(data_); }
  double real() const { return std::get<double>(data_); }
  uint64_t big_integer() const { return std::get<uint64_t>(data_); }
  // Of a bool or an int of 64 bits; raises for a big one.
  int64_t integer() const;
  double as_double() const;  // of any number
  bool number_said() const { return said_; }

  // Null: it is something else.
  Undefined* undefined() const { return object<Undefined>(); }
  List* list() const { return object<List>(); }
  Dict* dict() const { return object<Dict>(); }
  View* dict_view() const { return object<View>(); }
  Range* range() const { return object<Range>(); }
  Iterator* iterator() const { return object<Iterator>(); }
  Members* members() const { return object<Members>(); }
  Callable* callable() const { return object<Callable>(); }

  const auto& data() const { return data_; }

 private:
  template <typename T>
  T* object() const {
    const auto* held = std::get_if<T*>(&data_);
    return held == nullptr ? nullptr : *held;
  }

  std::variant<Nothing, None, bool, int64_t, uint64_t, double, Text, Undefined*, List*, Dict*, View*, Range*,
               Iterator*, Members*, Callable*>
      data_;
  bool said_ = false;
};

// What is not there.  It can be printed, iterated and tested; all else raises why.
struct Undefined : Object {
  Undefined(std::string the_message, FailureKind the_kind = FailureKind::kUndefined)
      : message(std::move(the_message)), kind(the_kind) {}
  [[noreturn]] void fail() const { throw Failure(kind, message, 0); }
  std::string message;
  FailureKind kind;
};

// A list or a tuple; never changed once a template has it.
struct List : Object {
  std::vector<Value> items;
  bool tuple = false;
  bool group = false;  // of the filter `groupby`: its two items have names, grouper and list
  int depth = 1;       // of what holds each other, itself included
  bool held = false;   // by another one: it is not changed in place any more
};

// Keeps the order of its keys.  Changed once a template has it only by Rules::kWider.
struct Dict : Object {
  bool held = false;  // as of List
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

  // Null: there is no such key.  Raises where the key is not hashable, as lists are not.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  // In the place of an equal key, if there is one.
  void set(Heap& heap, Value key, Value value);

 private:
  static constexpr size_t kFewEntries = 8;  // looked through one by one
  std::optional<size_t> position(size_t hash, const std::function<bool(const Value&)>& equal) const;
  std::unordered_multimap<size_t, size_t> index_;  // hash to position, where there are more
};

// dict.keys(), .values(), .items()
struct View : Object {
  enum class Part { kKeys, kValues, kItems };
  View(const Dict* the_dict, Part the_part) : dict(the_dict), part(the_part) {}
  Value at(Heap& heap, size_t index) const;
  const Dict* dict;
  Part part;
};

struct Range : Object {
  Range(int64_t the_start, int64_t the_stop, int64_t the_step)
      : start(the_start), stop(the_stop), step(the_step) {}
  size_t size() const;
  int64_t at(size_t index) const { return start + static_cast<int64_t>(index) * step; }
  int64_t start, stop, step;
};

// What can be gone through once, such as what `map` and `select` give.
struct Iterator : Object {
  // `source` is what it goes through.
  Iterator(std::string_view the_type, const Value& source);
  virtual std::optional<Value> next(Heap& heap) = 0;
  std::string_view type;  // as Python calls it
  int depth;
};

// An object with named members: a namespace, the loop, a cycler.
struct Members : Object {
  explicit Members(std::string_view the_type) : type(the_type) {}
  virtual std::optional<Value> member(Heap& heap, std::string_view name) = 0;
  // What can be called is `loop` of a recursive loop.
  virtual Value call(Heap& heap, Arguments& arguments);
  std::string_view type;
};

struct Namespace : Members {
  Namespace() : Members("Namespace") {}
  std::optional<Value> member(Heap& heap, std::string_view name) override;
  void set(Heap& heap, std::string_view name, Value value);
  std::vector<std::pair<Text, Value>> values;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<Text, Value>> named;
};

struct Callable : Object {
  Callable(std::string_view the_type, std::string_view the_name) : type(the_type), name(the_name) {}
  virtual Value call(Heap& heap, Arguments& arguments) = 0;
  // Macros have some.
  virtual std::optional<Value> member(Heap&, std::string_view) { return std::nullopt; }
  std::string_view type;
  std::string name;
};

// "str", "list", "NoneType", ...: as Python calls the type.
std::string_view type_name(const Value& value);
bool truth(const Value& value);
// How deep lists, dicts and iterators hold each other: up to kMaxValueDepth, which bounds what is recursive.
int depth_of(const Value& value);
// Nothing: it has no length.
std::optional<size_t> length(const Value& value);

// Makers.
Value make_undefined(Heap& heap, std::string message);
Value make_list(Heap& heap, std::vector<Value> items);
Value make_tuple(Heap& heap, std::vector<Value> items);
inline Value make_text(std::string_view own) { return Text::own(own); }

// Goes through the items of anything that can be iterated: list, tuple, dict (its keys), view, range, text
// (its characters), iterator, undefined (which has none).  Raises a TypeError for others.
class Items {
 public:
  Items(Heap& heap, const Value& value);
  std::optional<Value> next();
  // How many are left, where that is known without going through them.
  std::optional<size_t> left() const;

 private:
  Heap* heap_;
  Value value_;
  size_t at_ = 0;  // index; of a text its place
};
bool is_iterable(const Value& value);
// By whatever holds it from now on.
void hold(const Value& value);
// To the end of a list that nothing holds.
void append(Heap& heap, List& list, Value item);
std::vector<Value> all_items(Heap& heap, const Value& value);

// An index of Python's into `size` items: from the end when negative; nothing beyond.
std::optional<size_t> item_index(int64_t index, size_t size);

}  // namespace odmoe::jinja
