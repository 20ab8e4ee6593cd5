#include "server/http_head.h"

#include <gtest/gtest.h>

#include "server/limits.h"

namespace odmoe::server {
namespace {

ApiResult<HttpHead> parse(std::string_view text) {
  HeadParser parser;
  const auto used = parser.take(text);
  if (!used.has_value()) return std::unexpected(used.error());
  EXPECT_TRUE(parser.done()) << text;
  EXPECT_EQ(*used, text.size());
  return std::move(parser).head();
}

// 0: it is taken.
int head_status(std::string_view text) {
  HeadParser parser;
  const auto used = parser.take(text);
  return used.has_value() ? 0 : used.error().status;
}

std::string get_head(std::string_view target, std::string_view fields = "Host: localhost\r\n") {
  return odmoe::format("GET {} HTTP/1.1\r\n{}\r\n", target, fields);
}
std::string post_head(std::string_view fields) {
  return odmoe::format("POST / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", fields);
}

TEST(HttpHead, SaysWhatIsAskedFor) {
  const auto head = parse(
      "POST /v1/models?x=%20 HTTP/1.1\r\nhost: localhost:80\r\nX-A:\t a b \t\r\nContent-Length: 12\r\n\r\n");
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->method, "POST");
  EXPECT_EQ(head->target, "/v1/models?x=%20");
  ASSERT_NE(head->find("HOST"), nullptr);
  EXPECT_EQ(*head->find("x-a"), "a b");
  EXPECT_EQ(head->body, HttpHead::Body::kLength);
  EXPECT_EQ(head->content_length, 12);
  EXPECT_FALSE(head->close);
}

TEST(HttpHead, EndsWhereItsEmptyLineIsHoweverItsBytesCome) {
  const std::string text = get_head("/") + "body";
  HeadParser parser;
  size_t used = 0;
  while (!parser.done()) used += parser.take(std::string_view(text).substr(used, 1)).value();
  EXPECT_EQ(used, text.size() - 4);
}

TEST(HttpHead, LinesThatReadersTakeDifferentlyAreRefused) {
  const std::string host = "Host: localhost\r\n\r\n";
  for (const char* line : {" GET / HTTP/1.1\r\n",
                           "\tGET / HTTP/1.1\r\n",
                           "\x01GET / HTTP/1.1\r\n",
                           "GET  / HTTP/1.1\r\n",
                           "GET /  HTTP/1.1\r\n",
                           "GET / HTTP/1.1 \r\n",
                           "GET\t/ HTTP/1.1\r\n",
                           "GET /a b HTTP/1.1\r\n",
                           "GET / HTTP/1.1\n",
                           "GET / HTTP/1.1\r",
                           "GET /\r\n",
                           "GET\r\n",
                           "G(T / HTTP/1.1\r\n",
                           "GET / HTTP/1.9\r\n",
                           "GET / HTTP/2.0\r\n",
                           "GET / HTTP/0.9\r\n",
                           "GET / http/1.1\r\n",
                           "GET / HTTP/1.1x\r\n",
                           "GET / HTTP/11\r\n",
                           "GET / \r\n",
                           "PRI * HTTP/2.0\r\n",
                           "GET a HTTP/1.1\r\n",
                           "GET * HTTP/1.1\r\n",
                           "CONNECT localhost:80 HTTP/1.1\r\n",
                           "GET /# HTTP/1.1\r\n",
                           "GET ftp://localhost/ HTTP/1.1\r\n",
                           "GET /\x7F HTTP/1.1\r\n",
                           "\r\n\r\n\r\nGET / HTTP/1.1\r\n",
                           "\x16\x03\x01"}) {
    EXPECT_EQ(head_status(line + host), 400) << line;
  }
  EXPECT_EQ(head_status("get / HTTP/1.1\r\n" + host), 405);
  EXPECT_EQ(head_status("\r\nGET / HTTP/1.1\r\n" + host), 0);  // left over from a body
}

TEST(HttpHead, FieldsThatReadersTakeDifferentlyAreRefused) {
  for (const char* fields : {"X : a\r\n", "X\t: a\r\n", ": a\r\n", "X\r\n", " X: a\r\n", "X: a\r\n b\r\n",
                             "X: a\r\n\tb\r\n", "X: a\n", "X: a\r", "X: \x01\r\n", "X: \x7F\r\n",
                             "X Y: a\r\n", "X(: a\r\n", "X: a\rb\r\n", "\xFF: a\r\n"}) {
    EXPECT_EQ(head_status(post_head(fields)), 400) << fields;
  }
  EXPECT_EQ(head_status(post_head(std::string_view("X: a\0b\r\n", 8))), 400);
  for (const char* name :
       {"Host", "HOST", "Origin", "Authorization", "X-Api-Key", "Content-Type", "Content-Encoding"}) {
    EXPECT_EQ(head_status(odmoe::format(
                  "GET / HTTP/1.1\r\nHost: localhost\r\n{0}: localhost\r\n{0}: localhost\r\n\r\n", name)),
              400);
  }
  EXPECT_EQ(head_status(post_head("X: a\r\nX: b\r\nX:\r\n")), 0);
}

TEST(HttpHead, AHostThereMustBeAndOne) {
  EXPECT_EQ(head_status(get_head("/", "")), 400);
  EXPECT_EQ(head_status("GET / HTTP/1.0\r\n\r\n"), 0);
  EXPECT_EQ(head_status(get_head("/", "Host: localhost\r\nHost: localhost\r\n")), 400);
  EXPECT_EQ(head_status(get_head("/", "Host: localhost\r\nhost: evil.example\r\n")), 400);
  for (const char* bad :
       {"", "[::1].evil.com", "127.0.0.1:80@evil.com", "localhost:80:90", "localhost:x", "a, b", "a b"}) {
    EXPECT_EQ(head_status(get_head("/", odmoe::format("Host: {}\r\n", bad))), 400) << bad;
  }
}

TEST(HttpHead, AnAbsoluteTargetNamesTheHost) {
  const auto head = parse(get_head("http://127.0.0.1:8080/health?a=b", "Host: other.example\r\n"));
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->target, "/health?a=b");
  EXPECT_EQ(*head->find("Host"), "127.0.0.1:8080");
  EXPECT_EQ(parse(get_head("HTTP://localhost"))->target, "/");
  EXPECT_EQ(parse(get_head("https://localhost?a"))->target, "/?a");
  EXPECT_EQ(*parse("GET http://localhost/ HTTP/1.0\r\n\r\n")->find("Host"), "localhost");
  for (const char* bad :
       {"http:///health", "http://user@localhost/", "http://[::1/", "http://localhost:x/", "http:/a"}) {
    EXPECT_EQ(head_status(get_head(bad)), 400) << bad;
  }
  EXPECT_EQ(head_status("GET http://localhost/ HTTP/1.1\r\n\r\n"),
            400);  // the field must be there all the same
  EXPECT_EQ(head_status("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"), 0);
}

TEST(HttpHead, WhereABodyEndsCannotBeSaidInTwoWays) {
  for (const char* fields : {"Content-Length: 5\r\nContent-Length: 6\r\n",
                             "Content-Length: 5\r\nContent-Length: 5\r\n",
                             "Content-Length: 5, 5\r\n",
                             "Content-Length: -1\r\n",
                             "Content-Length: +5\r\n",
                             "Content-Length: 0x5\r\n",
                             "Content-Length: 5 5\r\n",
                             "Content-Length:\r\n",
                             "Content-Length: five\r\n",
                             "Content-Length: 5.0\r\n",
                             "Content-Length: 18446744073709551616\r\n",
                             "Content-Length: 99999999999999999999999999\r\n",
                             "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
                             "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: gzip, chunked\r\n",
                             "Transfer-Encoding: chunked, identity\r\n",
                             "Transfer-Encoding: identity\r\n",
                             "Transfer-Encoding: xchunked\r\n",
                             "Transfer-Encoding: \"chunked\"\r\n",
                             "Transfer-Encoding:\r\n"}) {
    EXPECT_EQ(head_status(post_head(fields)), 400) << fields;
  }
  EXPECT_EQ(head_status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(parse(post_head("Transfer-Encoding: Chunked\r\n"))->body, HttpHead::Body::kChunked);
  EXPECT_EQ(parse(post_head(""))->body, HttpHead::Body::kNone);
  EXPECT_EQ(parse(post_head("Content-Length: 18446744073709551615\r\n"))->content_length, UINT64_MAX);
}

TEST(HttpHead, WhatIsTooLargeIsToldSo) {
  EXPECT_EQ(head_status(get_head("/" + std::string(kMaxTargetBytes - 1, 'x'))), 0);
  EXPECT_EQ(head_status(get_head("/" + std::string(kMaxTargetBytes, 'x'))), 414);
  EXPECT_EQ(head_status(std::string(kMaxHeadBytes, 'x')), 414);
  EXPECT_EQ(head_status(post_head("X: " + std::string(kMaxFieldBytes, 'x') + "\r\n")), 431);
  EXPECT_EQ(head_status(post_head("X: " + std::string(kMaxFieldBytes - 3, 'x') + "\r\n")), 0);
  EXPECT_EQ(head_status(post_head("X: " + std::string(kMaxFieldBytes / 3, '%') + "\r\n")), 431);
  // What nobody looks at, as the cookies of other programs on the same machine, may be longer.
  EXPECT_EQ(head_status(post_head("Cookie: " + std::string(3 * kMaxFieldBytes, 'x') + "\r\n")), 0);
  std::string fields, long_fields;
  for (size_t i = 0; i < kMaxFields; ++i) fields += "X: y\r\n";
  EXPECT_EQ(head_status(post_head(fields)), 431);
  for (size_t i = 0; i < 9; ++i) long_fields += "X: " + std::string(kMaxFieldBytes - 8, 'x') + "\r\n";
  EXPECT_EQ(head_status(post_head(long_fields)), 431);
}

TEST(HttpHead, TheEndOfTheConnectionIsAskedForInAnyOfItsSpellings) {
  EXPECT_TRUE(parse(post_head("Connection: Close\r\n"))->close);
  EXPECT_TRUE(parse(post_head("Connection: keep-alive , close\r\n"))->close);
  EXPECT_TRUE(parse(post_head("Connection: x\r\nConnection: close\r\n"))->close);
  EXPECT_FALSE(parse(post_head("Connection: closed\r\n"))->close);
  EXPECT_TRUE(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->close);
}

TEST(HttpHead, OnlyAContinueCanBeExpected) {
  EXPECT_TRUE(parse(post_head("Expect: 100-Continue\r\nContent-Length: 5\r\n"))->expects_continue);
  EXPECT_FALSE(parse(post_head("Expect: 100-continue\r\n"))->expects_continue);
  EXPECT_EQ(head_status(post_head("Expect: 200-ok\r\nContent-Length: 5\r\n")), 417);
}

TEST(HttpHead, TheLibraryIsShownNothingOfBodiesAndRanges) {
  const auto head = parse(
      "POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a%41\r\nRange: bytes=0-1\r\n"
      "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nAccept: ;\r\nConnection: close\r\n\r\n");
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(
      head_for_library(*head, "/v1/a"),
      "POST /v1/a?b=c HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a%2541\r\nContent-Length: 0\r\n"
      "Connection: close\r\n\r\n");
}

}  // namespace
}  // namespace odmoe::server
