// The addresses that there are, what else they are called, and who answers them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/dialects.h"

namespace odmoe::server {

struct Route {
  enum class Method : uint8_t { kGet, kPost, kDelete };  // who may GET may ask for the HEAD
  enum class Handler : uint8_t {
    // The server itself:
    kPage,
    kHealth,
    kMetrics,
    kStats,
    kEvents,
    // A dialect:
    kPlain,     // Dialect::answer()
    kGenerate,  // Dialect::parse(), and what it says is to be generated; takes a body and needs the model
    kPrompt,    // the same of a chat, of which only the prompt is made
  };
  Method method = Method::kGet;
  std::string_view path;      // canonical; its name in the figures, too
  bool has_names = false;     // what stands below it is there, too: PATH/NAME
  bool only_names = false;    // the path itself is not
  bool takes_body = false;    // of at most --max-body, of which no part is compressed
  bool streams_body = false;  // of any type, which is read as it is answered (PlainRequest::read_body)
  bool needs_key = true;      // where there are keys
  bool needs_model = true;    // 503 while it loads and once the server ends
  Handler handler = Handler::kPlain;
  int id = 0;                        // by which the dialect knows it
  const Dialect* dialect = nullptr;  // whose words errors have; set by the table
};

std::string_view method_name(Route::Method method);

// Immutable, so thread-safe.
class RouteTable {
 public:
  // Of these dialects, at least one, and of the server itself.  No two may have a method of one path, unless
  // one of them is for what stands below it only.
  explicit RouteTable(Dialects dialects);

  // The address as the others know it.  Clients have base addresses with and without /v1, with and without a
  // slash at their ends, and put one of their own between or not: all mean the same here.  What is not an
  // address of the server stays as it is.  `path` is still percent-encoded and has no query.
  std::string canonical(std::string_view path) const;

  // What follows is of canonical paths.
  // Null: there is none.
  const Route* find(std::string_view path, std::string_view method) const;
  // One of the path, whatever its method.
  const Route* find(std::string_view path) const;
  // The methods that the path is there for, for a header Allow; "" for a path that is not there.
  std::string allowed_methods(std::string_view path) const;
  // As the figures name it: "other" for a path that is not there.
  std::string_view label(std::string_view path) const;
  // Whose words to tell an error in.
  const Dialect& dialect_of(std::string_view path, std::string_view method) const;
  const Dialect& default_dialect() const { return *dialects_.front(); }

 private:
  Dialects dialects_;
  std::vector<Route> routes_;
};

}  // namespace odmoe::server
