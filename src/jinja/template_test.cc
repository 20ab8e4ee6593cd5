// What templates come out as: the statements and the scopes of names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jinja/testing_render.h"

namespace odmoe::jinja {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::text_of;

TEST(JinjaWhiteSpace, IsTrimmedAsTransformersHasIt) {
  EXPECT_EQ(text_of("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  EXPECT_EQ(text_of("a \n {{- 1 -}} \n b"), "a1b");
  EXPECT_EQ(text_of("  {%+ if true %}x{% endif +%}\n y"), "  x\n y");
  EXPECT_EQ(text_of("a {# c #}\nb{#- d -#} e"), "a be");
  EXPECT_EQ(text_of("{{ 1 }}\n{{ 2 }}\n\n"), "1\n2\n");
  EXPECT_EQ(text_of("a\r\nb\rc"), "a\nb\nc");
  EXPECT_EQ(text_of("{% raw %}{{ x }}{% if %}{% endraw %}"), "{{ x }}{% if %}");
  EXPECT_EQ(text_of("x {%- raw -%} \n y {%- endraw -%} \n z"), "xyz");
}

TEST(JinjaScopes, WhatALoopSetsStaysInIt) {
  EXPECT_EQ(text_of("{% set x = 1 %}{% for i in [5, 6] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}"), "561");
  EXPECT_EQ(
      text_of("{% set ns = namespace(x=1) %}{% for i in [5] %}{% set ns.x = i %}{% endfor %}{{ ns.x }}"),
      "5");
  EXPECT_EQ(text_of("{% if true %}{% set x = 2 %}{% endif %}{{ x }}"), "2");
  EXPECT_EQ(text_of("{% for i in [1, 2] %}{{ x }}{% set x = i %}{% endfor %}", {{"x", "o"}}), "oo");
  EXPECT_EQ(text_of("{% for i in [1, 2] %}{% if i == 2 %}{{ x }}{% endif %}{% set x = i %}{% endfor %}",
                    {{"x", "o"}}),
            "o");
}

TEST(JinjaScopes, ANameThatIsSetLaterIsNothingBefore) {
  EXPECT_EQ(text_of("{% for i in [1] %}{{ x }}{% endfor %}{% set x = 2 %}{{ x }}", {{"x", "o"}}), "2");
  EXPECT_EQ(text_of("{{ x }}{% set x = 2 %}{{ x }}", {{"x", "o"}}), "o2");
  EXPECT_EQ(text_of("{% if false %}{% set x = 2 %}{% endif %}{{ x }}", {{"x", "o"}}), "o");
}

TEST(JinjaScopes, MacrosSeeTheTemplatesVariablesAsTheyAreWhenCalled) {
  EXPECT_EQ(
      text_of(
          "{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}"),
      "12");
  EXPECT_EQ(text_of("{% macro m() %}{{ loop }}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{{ loop.index "
                    "}}{% endfor %}"),
            "1");
  EXPECT_EQ(text_of("{% if true %}{% macro m() %}in{% endmacro %}{% endif %}{{ m() }}"), "in");
}

TEST(JinjaMacros, TakeArgumentsAsPythonDoes) {
  const std::string macro = "{% macro m(a, b=a, c='z') %}{{ a }}{{ b }}{{ c }}{% endmacro %}";
  EXPECT_EQ(
      text_of(macro + "{{ m(1) }}|{{ m(1, 2) }}|{{ m(c=3, a=4) }}|{{ m() }}|{{ m(*[1, 2], **{'c': 3}) }}"),
      "11z|12z|443|z|123");
  EXPECT_THAT(text_of(macro + "{{ m(1, 2, 3, 4) }}"), StartsWith("error: "));
  EXPECT_THAT(text_of(macro + "{{ m(d=1) }}"), StartsWith("error: "));
  EXPECT_EQ(text_of("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, k=2) }}"), "(1,){'k': 2}");
  EXPECT_EQ(text_of("{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}"),
            "3210");
}

TEST(JinjaMacros, ACallBlockIsTheCaller) {
  EXPECT_EQ(
      text_of("{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(3) %}{{ y * 2 }}{% endcall %}"),
      "<6>");
  EXPECT_THAT(text_of("{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}"), StartsWith("error: "));
  EXPECT_EQ(text_of("{% generation %}said{% set x = 1 %}{% endgeneration %}{{ x }}"), "said");
}

TEST(JinjaLoops, KnowWhereTheyAre) {
  EXPECT_EQ(
      text_of(
          "{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ "
          "loop.last }}"
          "{{ loop.previtem }}{{ loop.nextitem }}{{ loop.length }}{{ loop.cycle('o', 'e') }} {% endfor %}"),
      "103TrueFalseb3o 212FalseFalseac3e 321FalseTrueb3o ");
  EXPECT_EQ(text_of("{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}"), "TrueFalseTrue");
  EXPECT_EQ(text_of("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}"),
            "a1Falseb2True");
  EXPECT_EQ(text_of("{% for x in [1, 2, 3, 4] if x is even %}{{ x }}{{ loop.length }}{% endfor %}"), "2242");
  EXPECT_EQ(text_of("{% for x in [] %}{% else %}none{% endfor %}"), "none");
}

TEST(JinjaLoops, EndEarly) {
  EXPECT_EQ(text_of("{% for x in range(9) %}{% if x == 1 %}{% continue %}{% elif x == 4 %}{% break %}{% "
                    "endif %}{{ x }}{% endfor %}"),
            "023");
  // As jinja2 compiles it: `else` goes by whether a round came to its end.
  EXPECT_EQ(text_of("{% for x in [1] %}{% break %}{% else %}else{% endfor %}"), "else");
  EXPECT_THAT(text_of("{% break %}"), HasSubstr("outside loop"));
  EXPECT_THAT(text_of("{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}"),
              HasSubstr("outside loop"));
}

TEST(JinjaLoops, CallThemselves) {
  EXPECT_EQ(text_of("{% for x in [1, [2, [3]]] recursive %}{{ loop.depth }}:{{ loop(x) if x is iterable else "
                    "x }} {% endfor %}"),
            "1:1 1:2:2 2:3:3   ");
}

TEST(JinjaStatements, SetWithFilterAndWith) {
  EXPECT_EQ(text_of("{% set x %} a {% endset %}[{{ x }}]{% set y | trim | upper %} b {% endset %}[{{ y }}]"),
            "[ a ][B]");
  EXPECT_EQ(text_of("{% set a, b = 1, 2 %}{{ a }}{{ b }}"), "12");
  EXPECT_EQ(text_of("{% filter upper %}a{{ 'b' }}{% endfilter %}"), "AB");
  EXPECT_EQ(text_of("{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}"), "211");
  EXPECT_EQ(text_of("{% set x = 1 %}{% block b %}{{ x }}{% endblock %}"), "1");
}

TEST(JinjaErrors, NameTheLine) {
  EXPECT_EQ(text_of("a\n{{ raise_exception('No ' ~ 'way') }}"), "error: line 2 of the chat template: No way");
  EXPECT_THAT(text_of("\n\n{{ x.y.z }}", {{"x", nullptr}}),
              StartsWith("error: line 3 of the chat template: 'None' has no"));
  EXPECT_THAT(text_of("\n{% if x %}\n"), StartsWith("error: line 2 "));
  EXPECT_THAT(text_of("\n{% nonsense %}"), StartsWith("error: line 2 "));
  EXPECT_THAT(text_of("{{ 'a' }}\n{{ 1 + }}"), StartsWith("error: line 2 "));
  EXPECT_THAT(text_of("{% macro m() %}\n{{ 1 + 'a' }}\n{% endmacro %}\n{{ m() }}"),
              StartsWith("error: line 2 "));
}

TEST(JinjaErrors, WhatDoesNotExistIsFoundBeforeItRuns) {
  EXPECT_THAT(text_of("{% for x in [] %}{{ x|nonsense }}{% endfor %}"),
              HasSubstr("No filter named 'nonsense'"));
  EXPECT_THAT(text_of("{{ 1 is nonsense }}"), HasSubstr("No test named 'nonsense'"));
  // ... but in a branch only when it runs.
  EXPECT_EQ(text_of("{% if false %}{{ 1|nonsense }}{% endif %}x"), "x");
  EXPECT_THAT(text_of("{% if true %}{{ 1|nonsense }}{% endif %}"),
              HasSubstr("No filter named 'nonsense' found"));
  EXPECT_THAT(text_of("{% include 'x' %}"), HasSubstr("include"));
  EXPECT_EQ(text_of("{% if false %}{% include 'x' %}{% endif %}x"), "x");
}

TEST(JinjaSandbox, ListsAndDictsAreNotChanged) {
  for (const char* source :
       {"{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ {'a': 1}.pop('a') }}", "{{ [1].sort() }}"}) {
    EXPECT_THAT(text_of(source), HasSubstr("unsafe")) << source;
  }
  EXPECT_THAT(text_of("{{ ''.__class__.__mro__ }}"), HasSubstr("unsafe"));
  EXPECT_EQ(text_of("{{ ''.__class__ }}"), "");
  EXPECT_THAT(text_of("{{ range.__self__() }}"), HasSubstr("unsafe"));
}

TEST(JinjaTime, IsOfNoZone) {
  RenderOptions options;
  options.now = {.tm_sec = 56, .tm_min = 34, .tm_hour = 2, .tm_mday = 6, .tm_mon = 6, .tm_year = 126};
  const auto text =
      testing::render_with("{{ strftime_now('%Y-%m-%d %H:%M:%S.%f|%z|%:z|%Z|%%Z') }}", {}, options);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(text->text, "2026-07-06 02:34:56.000000||||%Z");
}

}  // namespace
}  // namespace odmoe::jinja
