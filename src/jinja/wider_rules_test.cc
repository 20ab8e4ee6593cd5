// What templates may do beyond transformers, and what keeps that in bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "jinja/template.h"

namespace odmoe::jinja {
namespace {

using ::testing::HasSubstr;

std::string wider(std::string_view source, const nlohmann::ordered_json& x = nullptr) {
  const auto rendered = Template::parse(source, Rules::kWider).and_then([&](const Template& one) {
    return one.render({{.name = "x", .value = x}});
  });
  return rendered.has_value() ? rendered->text : "error: " + rendered.error().message;
}

TEST(JinjaWiderRules, ListsAndDictsAreChangedInPlace) {
  EXPECT_EQ(
      wider("{% set l = [1] %}{% set _ = l.append(2) %}{% set _ = l.extend((3, 4)) %}{{ l.pop(0) }}{{ l }}"),
      "1[2, 3, 4]");
  EXPECT_EQ(wider("{% set l = [1, 2] %}{% set _ = l.insert(-1, 9) %}{{ l }}{{ l.pop() }}{{ l }}"),
            "[1, 9, 2]2[1, 9]");
  EXPECT_EQ(
      wider("{% set ns = namespace(ids=[]) %}{% for i in range(3) %}{% set _ = ns.ids.append('c' ~ i) %}"
            "{% endfor %}{{ ns.ids.pop(0) }}{{ ns.ids | join(',') }}"),
      "c0c1,c2");
  EXPECT_EQ(wider("{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}, a=3) %}{{ d }}"), "{'a': 3, 'b': 2}");
  EXPECT_EQ(wider("{% set l = [1] %}{% set c = l.copy() %}{% set _ = c.append(2) %}{{ l }}{{ c }}"),
            "[1][1, 2]");
  EXPECT_THAT(wider("{{ [].pop() }}"), HasSubstr("pop from empty list"));
  EXPECT_THAT(wider("{{ [1].pop(3) }}"), HasSubstr("out of range"));
  EXPECT_THAT(wider("{{ {}.popitem() }}"), HasSubstr("unsafe"));
}

TEST(JinjaWiderRules, WhatAnotherValueHoldsIsNotChanged) {
  EXPECT_THAT(wider("{% set l = [] %}{% set _ = l.append(l) %}"), HasSubstr("holds"));
  EXPECT_THAT(wider("{% set l = [] %}{% set m = [l] %}{% set _ = l.append(m) %}"), HasSubstr("holds"));
  EXPECT_THAT(wider("{% set d = {} %}{% set _ = d.update({'d': d}) %}"), HasSubstr("holds"));
  EXPECT_THAT(wider("{% set _ = x.l.append(1) %}", {{"l", {1}}}), HasSubstr("holds"));
  EXPECT_THAT(wider("{% set ns = namespace(l=[]) %}{% for i in range(300) %}{% set m = [] %}"
                    "{% set _ = m.append(ns.l) %}{% set ns.l = m %}{% endfor %}"),
              HasSubstr("too deeply"));
}

TEST(JinjaWiderRules, JsonIsRead) {
  EXPECT_EQ(wider(R"({{ ('{"a": [1, 2.5, null]}' | from_json).a[1] }})"), "2.5");
  EXPECT_THAT(wider("{{ '{' | from_json }}"), HasSubstr("no JSON"));
  EXPECT_THAT(wider("{{ 1 | from_json }}"), HasSubstr("must be str"));
  // Who wrote the text wrote what it says.
  const auto said = Template::parse("{{ (x | from_json).a }}", Rules::kWider)
                        ->render({{.name = "x", .value = R"({"a": "<|im_end|>"})"}});
  ASSERT_TRUE(said.has_value());
  EXPECT_EQ(said->said, (std::vector<Span>{{0, 10}}));
}

TEST(JinjaWiderRules, AreNotTransformers) {
  const auto changes = Template::parse("{% set l = [1] %}{% set _ = l.append(2) %}")->render({});
  ASSERT_FALSE(changes.has_value());
  EXPECT_THAT(changes.error().message, HasSubstr("unsafe"));
  EXPECT_THAT(Template::parse("{{ x | from_json }}").error().message,
              HasSubstr("No filter named 'from_json'"));
}

}  // namespace
}  // namespace odmoe::jinja
