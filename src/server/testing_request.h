// Bodies of requests for the tests of request_*.cc.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "odmoe/format.h"
#include "server/request.h"

namespace odmoe::server::testing {

inline constexpr int32_t kVocab = 1000;

// A chat with these messages (a JSON list) and more members (", ..." or empty).
inline std::string chat_body(std::string_view messages, std::string_view more = "") {
  return odmoe::format(R"({{"messages":{}{}{}}})", messages, more.empty() ? "" : ",", more);
}
// One question and more members.
inline std::string ask(std::string_view more = "") {
  return chat_body(R"([{"role":"user","content":"x"}])", more);
}
inline std::string complete(std::string_view more = "") {
  return odmoe::format(R"({{"prompt":"x"{}{}}})", more.empty() ? "" : ",", more);
}

inline ApiResult<ChatRequest> read_chat(const std::string& body) { return parse_chat_request(body, kVocab); }
inline ApiResult<CompletionRequest> read_completion(const std::string& body) {
  return parse_completion_request(body, kVocab);
}

// The request, which must be taken.
inline ChatRequest chat(const std::string& body) {
  auto request = read_chat(body);
  EXPECT_TRUE(request.has_value()) << body << ": " << (request.has_value() ? "" : request.error().message);
  return request.has_value() ? std::move(*request) : ChatRequest();
}
inline CompletionRequest completion(const std::string& body) {
  auto request = read_completion(body);
  EXPECT_TRUE(request.has_value()) << body << ": " << (request.has_value() ? "" : request.error().message);
  return request.has_value() ? std::move(*request) : CompletionRequest();
}

// The field that is named when the request is refused; empty: it is taken.
inline std::string chat_refuses(const std::string& body) {
  const auto request = read_chat(body);
  return request.has_value() ? "" : request.error().param;
}
inline std::string completion_refuses(const std::string& body) {
  const auto request = read_completion(body);
  return request.has_value() ? "" : request.error().param;
}

}  // namespace odmoe::server::testing
