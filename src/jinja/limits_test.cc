// Templates that would run forever, fill the memory or the stack.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "jinja/testing_render.h"

namespace odmoe::jinja {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(std::string_view source) {
  RenderOptions options;
  options.limits = {.steps = 1'000'000, .memory_bytes = size_t{8} << 20, .output_bytes = size_t{1} << 20};
  const auto rendered = testing::render_with(source, {{"x", "said"}}, options);
  return rendered.has_value() ? "no error" : rendered.error().message;
}

std::string repeated(std::string_view text, size_t n) {
  std::string all;
  for (; n > 0; --n) all += text;
  return all;
}

TEST(JinjaLimits, LoopsWithinLoopsEnd) {
  EXPECT_THAT(error_of(repeated("{% for i in range(100000) %}", 8) + repeated("{% endfor %}", 8)),
              HasSubstr("steps"));
  EXPECT_THAT(error_of("{{ range(100001)|list }}"), HasSubstr("Range too big"));
}

TEST(JinjaLimits, MemoryIsBounded) {
  EXPECT_THAT(error_of("{{ 'a' * 999999999999 }}"), HasSubstr("memory"));
  EXPECT_THAT(error_of("{{ [0] * 999999999 }}"), HasSubstr("memory"));
  EXPECT_THAT(
      error_of(
          "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
      HasSubstr("memory"));
  EXPECT_THAT(error_of("{% for i in range(60) %}{{ ('x' * 1000) * 100 }}{% endfor %}"),
              HasSubstr("prints more"));
  EXPECT_THAT(error_of("{{ '%999999999d' % 1 }}"), HasSubstr("characters"));
  EXPECT_THAT(error_of("{{ '{:999999999}'.format(1) }}"), HasSubstr("characters"));
  EXPECT_THAT(error_of("{{ 'a'.center(99999999999) }}"), HasSubstr("memory"));
}

TEST(JinjaLimits, WhatIsFreedCountsNoMore) {
  EXPECT_EQ(error_of("{% set ns = namespace(s='') %}{% for i in range(2000) %}{% set ns.s = ns.s + "
                     "'abcdefgh' %}{% endfor %}"),
            "no error");
}

TEST(JinjaLimits, RecursionIsBounded) {
  EXPECT_THAT(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("levels deep"));
  EXPECT_THAT(error_of("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"), HasSubstr("levels deep"));
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}"), HasSubstr("levels deep"));
  EXPECT_THAT(
      error_of("{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}"),
      HasSubstr("too deeply"));
  EXPECT_THAT(error_of("{% set ns = namespace(a='x') %}{% for i in range(1000) %}{% set ns.a = "
                       "ns.a|map('upper') %}{% endfor %}"),
              HasSubstr("too deeply"));
}

TEST(JinjaLimits, DeeplyNestedSourceIsRefused) {
  for (const char* open :
       {"(", "[", "{'a':", "not ", "-", "x(", "x[", "x if x else ", "'a' is in [", "x.y(*["}) {
    EXPECT_THAT(error_of("{{ " + repeated(open, 100'000)), StartsWith("line 1 ")) << open;
  }
  EXPECT_THAT(error_of(repeated("{% if x %}", 100'000)), HasSubstr("levels deep"));
  EXPECT_THAT(error_of("{{ x" + repeated(".y", 100'000) + " }}"), HasSubstr("in a row"));
  EXPECT_THAT(error_of("{{ x" + repeated("|upper", 100'000) + " }}"), HasSubstr("in a row"));
  EXPECT_EQ(error_of("{{ 1" + repeated(" + 1", 10'000) + " }}"), "no error");
  EXPECT_EQ(error_of("{{ x" + repeated(" ~ x", 1'000) + " }}"), "no error");
}

TEST(JinjaLimits, TheSourceHasASize) {
  EXPECT_THAT(error_of(std::string((size_t{4} << 20) + 1, 'x')), HasSubstr("bytes"));
}

}  // namespace
}  // namespace odmoe::jinja
