// Values as Python computes, compares and prints them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jinja/testing_render.h"

namespace odmoe::jinja {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::text_of;

TEST(JinjaNumbers, AreComputedAsPythonDoes) {
  EXPECT_EQ(
      text_of("{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}"),
      "3 -4 -2 2 3.5 1024 0.5");
  EXPECT_EQ(text_of("{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1.5 // 0.4 }} {{ -1.5 % 1 }} {{ true + 1 }}"),
            "64 4 3.0 0.5 2");
  EXPECT_THAT(text_of("{{ 1 // 0 }}"), StartsWith("error: "));
  EXPECT_THAT(text_of("{{ 9223372036854775807 + 1 }}"), HasSubstr("64 bits"));
  EXPECT_EQ(text_of("{{ x }} {{ x == x }} {{ x > 1 }}", {{"x", 18446744073709551615U}}),
            "18446744073709551615 True True");
}

TEST(JinjaNumbers, ArePrintedAsPythonDoes) {
  EXPECT_EQ(text_of("{{ 0.1 }} {{ 1.0 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 1e-5 }} {{ 0.0001 }} {{ "
                    "1e22 }} {{ -0.0 }}"),
            "0.1 1.0 1e+16 1.2345678901234568e+17 1e-05 0.0001 1e+22 -0.0");
  EXPECT_EQ(text_of("{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1234|round(-2) }} {{ "
                    "2.1|round(0, 'ceil') }}"),
            "2.0 4.0 2.67 1200 3.0");
}

TEST(JinjaNumbers, AreComparedExactly) {
  EXPECT_EQ(text_of("{{ 9007199254740993 == 9007199254740992.0 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 1 < 2 < "
                    "3 }} {{ 1 < 3 < 2 }}"),
            "False True True True False");
  EXPECT_THAT(text_of("{{ 1 < 'a' }}"), HasSubstr("not supported between instances of 'int' and 'str'"));
  EXPECT_THAT(text_of("{{ x < 1 }}"), HasSubstr("'x' is undefined"));
}

TEST(JinjaValues, ArePrintedAsPythonDoes) {
  EXPECT_EQ(text_of("{{ x }}", {{"x", {{"a", "ü"}, {"b", nullptr}, {"c", {1, 2.0, true}}}}}),
            "{'a': 'ü', 'b': None, 'c': [1, 2.0, True]}");
  EXPECT_EQ(text_of(R"({{ ["it's", 'say "x"', "both ' and \"", '\n\t\\\x00\u200b'] }})"),
            R"(["it's", 'say "x"', 'both \' and "', '\n\t\\\x00\u200b'])");
  EXPECT_EQ(
      text_of("{{ (1,) }} {{ () }} {{ (1, 2) }} {{ none }} {{ x }} {{ range(3) }} {{ namespace(a=1) }}"),
      "(1,) () (1, 2) None  range(0, 3) <Namespace {'a': 1}>");
}

TEST(JinjaValues, AreLookedUpAsJinja2Does) {
  const nlohmann::ordered_json variables = {
      {"d", {{"items", 1}, {"k", "v"}}}, {"l", {10, 20, 30}}, {"s", "Zürich"}};
  EXPECT_EQ(text_of("{{ d['items'] }} {{ d.items() | list }} {{ d.k }} {{ d['nope'] }} {{ d.get('x', 9) }}",
                    variables),
            "1 [('items', 1), ('k', 'v')] v  9");
  EXPECT_EQ(text_of("{{ l.0 }} {{ l[-1] }} {{ l[9] }} {{ l[1:] }} {{ l[::-1] }} {{ l[-2:5:1] }}", variables),
            "10 30  [20, 30] [30, 20, 10] [20, 30]");
  EXPECT_EQ(text_of("{{ s[1] }} {{ s[1:3] }} {{ s[::-1] }} {{ s[::2] }} {{ s|length }}", variables),
            "ü ür hcirüZ Zrc 6");
  EXPECT_THAT(text_of("{{ d.nope.more }}", variables), HasSubstr("'dict object' has no attribute 'nope'"));
  EXPECT_THAT(text_of("{{ none[1:] }}"), StartsWith("error: "));
}

TEST(JinjaValues, AreFoundInOthers) {
  EXPECT_EQ(
      text_of("{{ 'b' in 'abc' }} {{ 1 in [1.0] }} {{ 'a' in {'a': 1} }} {{ 'x' not in [] }} {{ 1 in x }}"),
      "True True True True False");
  EXPECT_THAT(text_of("{{ 'a' in none }}"), StartsWith("error: "));
  EXPECT_THAT(text_of("{{ 1 in 'abc' }}"), StartsWith("error: "));
  EXPECT_EQ(text_of("{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {(1, 2): 3}[(1, 2)] }}"), "{1: 'c'} 3");
  EXPECT_THAT(text_of("{{ {[]: 1} }}"), HasSubstr("unhashable type: 'list'"));
}

TEST(JinjaText, AddsOnlyText) {
  EXPECT_EQ(text_of("{{ 'a' + 'b' }}{{ 'a' ~ 1 ~ none }}{{ 'ab' * 2 }}{{ [1] + [2] }}"),
            "aba1Noneabab[1, 2]");
  EXPECT_THAT(text_of("{{ 'a' + 1 }}"), HasSubstr("can only concatenate str (not \"int\") to str"));
  EXPECT_THAT(text_of("{{ [1] + 'a' }}"), StartsWith("error: "));
}

TEST(JinjaText, SafeTextEscapesWhatIsAddedToIt) {
  EXPECT_EQ(
      text_of("{{ '<b>'|safe + '<i>\"' }} {{ '<i>' + '<b>'|safe }} {{ '<b>'|safe ~ '<i>' }} {{ '<'|e }}"),
      "<b>&lt;i&gt;&#34; &lt;i&gt;<b> <b><i> &lt;");
  EXPECT_EQ(
      text_of("{{ ('%s'|safe) % '<' }} {{ ('{}'|safe).format('<') }} {{ (','|safe).join(['<', '>']) }}"),
      "&lt; &lt; &lt;,&gt;");
}

TEST(JinjaText, IsFormattedAsPythonDoes) {
  EXPECT_EQ(text_of("{{ '%s|%5.1f|%-4d|%04d|%x|%%|%r' % ('a', 2.25, 7, 42, 255, 'q') }}"),
            "a|  2.2|7   |0042|ff|%|'q'");
  EXPECT_EQ(text_of("{{ '%(a)s-%(b)d' % {'a': 1, 'b': 2} }} {{ '%s'|format([1]) }}"), "1-2 [1]");
  EXPECT_EQ(text_of("{{ '{:5}|{}'.format(true, true) }}"), "    1|True");
  EXPECT_EQ(text_of("{{ '{} {1}'.format(1, 2) }}"),
            "error: line 1 of the chat template: cannot switch between manual field "
            "specification and automatic field numbering");
  EXPECT_EQ(text_of("{{ '{0:>5}|{1:^7.2f}|{x[k]!r}|{2:,}|{3:08.3f}|{4:+d}'.format('a', 2.345, 1234567, "
                    "3.14159, 5, x={'k': 'v'}) }}"),
            "    a| 2.35  |'v'|1,234,567|0003.142|+5");
  EXPECT_THAT(text_of("{{ '%d' % 'a' }}"), StartsWith("error: "));
  EXPECT_THAT(text_of("{{ '%s %s' % (1,) }}"), HasSubstr("not enough arguments"));
  EXPECT_THAT(text_of("{{ '%s' % (1, 2) }}"), HasSubstr("not all arguments"));
}

TEST(JinjaText, HasThePythonMethods) {
  EXPECT_EQ(text_of("{{ ' a  b '.split() }} {{ 'a,b,,c'.split(',', 2) }} {{ 'a b c'.rsplit(' ', 1) }} {{ "
                    "'a\nb\r\n'.splitlines() }}"),
            "['a', 'b'] ['a', 'b', ',c'] ['a b', 'c'] ['a', 'b']");
  EXPECT_EQ(text_of("{{ 'xxaxx'.strip('x') }} {{ 'ab'.startswith(('x', 'a')) }} {{ 'aXbX'.replace('X', '', "
                    "1) }} {{ 'aba'.rfind('a') }}"),
            "a True abX 2");
  EXPECT_EQ(text_of("{{ 'ΣΑΣ'.lower() }} {{ 'straße'.upper() }} {{ 'ab cd'.title() }} {{ 'éa'.capitalize() "
                    "}} {{ 'aB'.swapcase() }}"),
            "σας STRASSE Ab Cd Éa Ab");
  EXPECT_EQ(text_of("{{ 'a-b'.partition('-') }} {{ '7'.zfill(3) }} {{ 'a'.center(4, '*') }} {{ ', "
                    "'.join(['x', 'y']) }} {{ 'abc'.index('c') }}"),
            "('a', '-', 'b') 007 *a** x, y 2");
  EXPECT_EQ(text_of("{{ '٣'.isdigit() }} {{ 'a1'.isalnum() }} {{ ''.isalpha() }} {{ 'Ab'.istitle() }} {{ ' "
                    "\u2003'.isspace() }}"),
            "True True False True True");
}

TEST(JinjaText, IsSplitSoOftenAndNoMore) {
  EXPECT_EQ(text_of("{{ ' a  b '.split(none, 1) }}{{ ' a  b '.rsplit(none, 1) }}{{ ' a '.split(none, 5) }}{{ "
                    "' '.split() }}"),
            "['a', 'b '][' a', 'b']['a'][]");
}

TEST(JinjaFilters, WorkOnSequences) {
  const nlohmann::ordered_json people = {
      {"p", {{{"n", "b"}, {"a", 2}}, {{"n", "A"}, {"a", 1}}, {{"n", "c"}, {"a", 2}}}}};
  EXPECT_EQ(text_of("{{ p|sort(attribute='n')|map(attribute='n')|join }} {{ p|map(attribute='a')|sum }} {{ "
                    "p|selectattr('a', 'gt', 1)|map(attribute='n')|list }}",
                    people),
            "Abc 5 ['b', 'c']");
  EXPECT_EQ(text_of("{% for a, g in p|groupby('a') %}{{ a }}:{{ g|length }} {% endfor %}{{ "
                    "(p|groupby('a'))[0].grouper }}",
                    people),
            "1:1 2:2 1");
  EXPECT_EQ(text_of("{{ [3, 1, 2]|sort }} {{ ['b', 'A']|sort }} {{ [1, 1, 2]|unique|list }} {{ {'b': 1, 'a': "
                    "2}|dictsort }} {{ [1, 2, 3]|batch(2, 0)|list }}"),
            "[1, 2, 3] ['A', 'b'] [1, 2] [('a', 2), ('b', 1)] [[1, 2], [3, 0]]");
  EXPECT_EQ(text_of("{{ [1, 2, 3, 4, 5]|slice(2)|list }} {{ [1, 2]|first }} {{ 'abc'|last }} {{ "
                    "'abc'|reverse }} {{ []|first }} {{ [2, 1]|min }}"),
            "[[1, 2, 3], [4, 5]] 1 c cba  1");
}

TEST(JinjaFilters, AreLazyWhereJinja2Is) {
  EXPECT_EQ(
      text_of(
          "{{ 'yes' if []|select else 'no' }} {% set g = [1, 2]|map('string') %}{{ g|join }}{{ g|join }}"),
      "yes 12");
  EXPECT_THAT(text_of("{{ [1]|map('string')|length }}"), HasSubstr("has no len()"));
  EXPECT_THAT(text_of("{{ [1]|map('string')|tojson }}"), HasSubstr("not JSON serializable"));
  EXPECT_EQ(text_of("{% set unused = [1]|map('nonsense') %}x"), "x");
  EXPECT_THAT(text_of("{{ 'abc'|items }}{{ 'abc'|items|list }}"), HasSubstr("Can only get item pairs"));
}

TEST(JinjaFilters, WriteJsonAsPythonDoes) {
  const nlohmann::ordered_json x = {
      {"x", {{"b", {1, 2.5, true, nullptr}}, {"a", "ü\"\n\u0001<"}, {"e", nlohmann::ordered_json::array()}}}};
  EXPECT_EQ(text_of("{{ x|tojson }}", x), R"({"b": [1, 2.5, true, null], "a": "ü\"\n\u0001<", "e": []})");
  EXPECT_EQ(text_of("{{ x|tojson(ensure_ascii=true, separators=(',', ':'), sort_keys=true) }}", x),
            R"({"a":"\u00fc\"\n\u0001<","b":[1,2.5,true,null],"e":[]})");
  EXPECT_EQ(text_of("{{ [1, {'a': []}]|tojson(indent=2) }}"), "[\n  1,\n  {\n    \"a\": []\n  }\n]");
  EXPECT_EQ(text_of("{{ {1: 1e3, none: 'a'}|tojson }}"), R"({"1": 1000.0, "null": "a"})");
  EXPECT_THAT(text_of("{{ {'a': u}|tojson }}"),
              HasSubstr("Object of type Undefined is not JSON serializable"));
}

TEST(JinjaFilters, ConvertAsPythonDoes) {
  EXPECT_EQ(text_of("{{ '42.7'|int }} {{ 'x'|int(5) }} {{ '0x1F'|int(base=16) }} {{ ' 1_0 '|int }} {{ "
                    "'a'|float }} {{ '1e3'|float }} {{ none|int }}"),
            "42 5 31 10 0.0 1000.0 0");
  EXPECT_EQ(text_of("{{ u|default('d') }} {{ ''|default('d') }} {{ ''|d('d', true) }} {{ "
                    "'abcdefghijklmn'|truncate(8) }} {{ 'a b'|title }}"),
            "d  d abcde... A B");
  EXPECT_EQ(text_of("{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, first=true) }}"),
            "a\n    b\n\n    c|  a\n  b");
}

TEST(JinjaTests, AskAsJinja2Does) {
  EXPECT_EQ(text_of("{{ x is defined }} {{ none is none }} {{ 'a' is string }} {{ [] is sequence }} {{ {} is "
                    "mapping }} {{ {} is iterable }} {{ 1 is number }}"),
            "False True True True True True True");
  EXPECT_EQ(text_of("{{ true is integer }} {{ 1.0 is float }} {{ 4 is divisibleby 2 }} {{ 1 is in [1] }} {{ "
                    "'A' is upper }} {{ true is sameas true }} {{ 1 is not odd }}"),
            "False True True True True True False");
  EXPECT_EQ(text_of("{{ x is iterable }} {{ x is sequence }} {{ 'upper' is filter }} {{ 'zz' is test }} {{ "
                    "range is callable }} {{ 3 is gt 2 }}"),
            "True True True False True True");
}

}  // namespace
}  // namespace odmoe::jinja
