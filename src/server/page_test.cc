#include "server/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace odmoe::server {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(LivePage, IsOneWholeDocument) {
  const std::string page(live_page());
  EXPECT_THAT(page, StartsWith("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  EXPECT_THAT(page, Not(HasSubstr("/* STYLE */")));
  EXPECT_THAT(page, Not(HasSubstr("/* SCRIPT */")));
  EXPECT_THAT(page, HasSubstr("class ExpertMap"));
  // So that it can be cut anywhere, and says the same whatever it is taken for.
  EXPECT_TRUE(std::ranges::all_of(page, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
}

TEST(LivePage, AsksNobodyElseForAnything) {
  const std::string page(live_page());
  for (const char* outside : {"src=", "https://", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(outside))) << outside;
  }
  // Names of XML, not addresses.
  size_t n = 0;
  for (size_t at = 0; (at = page.find("http://", at)) != std::string::npos; ++at, ++n) {
    EXPECT_THAT(page.substr(at), StartsWith("http://www.w3.org/2000/svg"));
  }
  EXPECT_GT(n, 0U);
}

TEST(LivePage, ItsPolicyLetsOnlyItsOwnScriptRun) {
  std::string policy;
  for (const auto& [name, value] : live_page_headers()) {
    if (std::string_view(name) == "Content-Security-Policy") policy = value;
  }
  EXPECT_THAT(policy, StartsWith("default-src 'none'; "));
  EXPECT_THAT(policy, ContainsRegex("script-src 'sha256-[A-Za-z0-9+/]{43}='; "));
  EXPECT_THAT(policy, ContainsRegex("style-src 'sha256-[A-Za-z0-9+/]{43}='; "));
  EXPECT_THAT(policy, HasSubstr("connect-src 'self'; "));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
}

}  // namespace
}  // namespace odmoe::server
