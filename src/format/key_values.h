// The metadata of a checkpoint: typed values by key, in GGUF's names and types whatever they were read from.
//
// Every accessor checks the type of what it returns, so that nothing above can be misled by a damaged file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/metadata_entry.h"
#include "odmoe/result.h"

namespace odmoe {

namespace gguf {
struct Value;
struct Values;
}  // namespace gguf

// Immutable, so thread-safe.  Values are kept as GGUF writes them and looked up in that (gguf_values.h).
class KeyValues {
 public:
  // `name` is what errors call the checkpoint.
  KeyValues(gguf::Values values, std::string name);
  // Of any origin.  Errors: those of gguf::encode().
  static Result<KeyValues> of(std::span<const MetadataEntry> entries, std::string name);

  // Integers of any width and sign convert when the value fits; so do float32 and float64, which must be
  // finite.
  // Missing key: kBadFile "... has no key K"; other type or out of range: kBadFile naming key and type.
  bool has(std::string_view key) const;
  Result<int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string> get_string(std::string_view key) const;
  // Arrays.  A scalar is one element, except for strings.  Any empty array is an empty result.
  Result<std::vector<std::string>> get_strings(std::string_view key) const;
  Result<std::vector<int64_t>> get_ints(std::string_view key) const;
  Result<std::vector<float>> get_floats(std::string_view key) const;
  Result<std::vector<bool>> get_bools(std::string_view key) const;

  // A value as text, as metadata_text() has it; the key must be there.
  std::string text_of(std::string_view key) const;

  // Every key in file order with its value as text (arrays and strings cut short, control characters
  // escaped), for `inspect --all`.
  std::vector<std::pair<std::string, std::string>> metadata_text() const;

  // All of them, and what else the file's header says, as GGUF writes it: equal only where every value is.
  std::span<const std::byte> encoded() const;

  // In file order; valid as long as this.
  std::vector<std::string_view> keys() const;

  // All of them as they are, in file order, for a converter.
  std::vector<MetadataEntry> entries() const;

 private:
  Result<const gguf::Value*> find(std::string_view key) const;
  // The same, of a value that is not an array.
  Result<const gguf::Value*> find_scalar(std::string_view key, std::string_view wanted) const;
  std::unexpected<Error> wrong_type(std::string_view key, const gguf::Value& value,
                                    std::string_view wanted) const;
  Result<int64_t> int_at(std::string_view key, const gguf::Value& value, uint64_t index) const;
  Result<bool> bool_at(std::string_view key, const gguf::Value& value, uint64_t index) const;
  Result<double> float_at(std::string_view key, const gguf::Value& value, uint64_t index) const;

  std::shared_ptr<const gguf::Values> values_;
  std::string name_;
};

}  // namespace odmoe
