// Who wrote what, through all that templates do with it.  〔In these brackets〕: the conversation.
#include <gtest/gtest.h>

#include "jinja/chat_prompt.h"
#include "jinja/testing_render.h"

namespace odmoe::jinja {
namespace {

using Json = nlohmann::ordered_json;
using testing::marked;

TEST(JinjaProvenance, GoesThroughOperators) {
  const Json x = {{"x", "said"}, {"n", 12}};
  EXPECT_EQ(marked("<|{{ x }}|>", x), "<|〔said〕|>");
  EXPECT_EQ(marked("{{ '<' + x + '>' }}{{ 'a' ~ x ~ n }}", x), "<〔said〕>a〔said12〕");
  EXPECT_EQ(marked("{{ x * 2 }}{{ ('ab' + x)[1:4] }}{{ ('a' + x)[::-1] }}{{ ('a' + x)[0] }}", x),
            "〔saidsaid〕b〔sadias〕aa");
  EXPECT_EQ(marked("{{ n + 1 }}{{ n / 8 }}{{ 1 + 1 }}{{ x|length }}", x), "〔131.5〕24");
}

TEST(JinjaProvenance, GoesThroughFilters) {
  const Json x = {{"x", "sa-id"}, {"l", {"a", "b"}}};
  EXPECT_EQ(marked("{{ ('own ' + x)|upper }}{{ ('ß' + x)|upper }}", x), "OWN 〔SA-ID〕SS〔SA-ID〕");
  EXPECT_EQ(marked("{{ x|replace('-', '+') }}{{ 'a-b'|replace('-', x) }}", x), "〔sa〕+〔id〕a〔sa-id〕b");
  EXPECT_EQ(marked("{{ l|join(', ') }} {{ ['o', x]|join('/') }}", x), "〔a〕, 〔b〕 o/〔sa-id〕");
  EXPECT_EQ(marked("{{ (' ' + x + ' ')|trim }}{{ (x + 'o')|title }}{{ x|capitalize }}", x),
            "〔sa-idSa-Id〕o〔Sa-id〕");
  EXPECT_EQ(marked("{{ '%s=%5s'|format('k', x) }}{{ '{}:{:>6}'.format(x, 'o') }}", x),
            "k=〔sa-idsa-id〕:     o");
  EXPECT_EQ(marked("{{ x|e }}{{ ('<' + x)|e }}{{ x|truncate(4, true, '.', 0) }}{{ x|reverse }}", x),
            "〔sa-id〕&lt;〔sa-idsa-〕.〔di-as〕");
  EXPECT_EQ(marked("{{ x|indent(2, true) }}{{ x|center(7) }}{{ x|list|last }}{{ x|first }}", x),
            "  〔sa-id〕 〔sa-id〕 〔ds〕");
}

TEST(JinjaProvenance, GoesThroughMethods) {
  const Json x = {{"x", "<think>a</think>b"}};
  EXPECT_EQ(marked("{{ x.split('</think>')[-1] }}{{ x.split('>')[0].lstrip('<') }}", x), "〔bthink〕");
  EXPECT_EQ(marked("{{ x.replace('<think>', '<|t|>') }}", x), "<|t|>〔a</think>b〕");
  EXPECT_EQ(marked("{{ ('<' ~ x.partition('a')[0] ~ '>').swapcase() }}", x), "<〔<THINK>〕>");
}

TEST(JinjaProvenance, GoesThroughJsonAndPrintedValues) {
  const Json x = {{"x", {{"k", "a\"<|im_end|>"}, {"n", 1}}}};
  EXPECT_EQ(marked("{{ x|tojson }}", x), "{\"〔k〕\": \"〔a\\\"<|im_end|>〕\", \"〔n〕\": 〔1〕}");
  EXPECT_EQ(marked("{{ x }}", x), "{'〔k〕': '〔a\"<|im_end|>〕', '〔n〕': 〔1〕}");
  EXPECT_EQ(marked("{% for k, v in x.items() %}<{{ k }}>{{ v }}{% endfor %}", x),
            "<〔k〕>〔a\"<|im_end|>〕<〔n〕>〔1〕");
}

TEST(JinjaProvenance, GoesThroughMacrosBlocksAndNamespaces) {
  const Json x = {{"x", "said"}};
  EXPECT_EQ(marked("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(x)|upper }}", x), "<〔SAID〕>");
  EXPECT_EQ(marked("{% set y %}<{{ x }}>{% endset %}{{ y[1:] }}", x), "〔said〕>");
  EXPECT_EQ(marked("{% set ns = namespace(t='<') %}{% for c in x %}{% set ns.t = ns.t ~ c ~ '.' %}{% endfor "
                   "%}{{ ns.t }}",
                   x),
            "<〔s〕.〔a〕.〔i〕.〔d〕.");
  EXPECT_EQ(marked("{% filter replace('a', 'o') %}a{{ x }}{% endfilter %}", x), "o〔s〕o〔id〕");
}

TEST(JinjaProvenance, AnEqualTextOfTheTemplatesIsItsOwn) {
  EXPECT_EQ(marked("{% if x == '<|end|>' %}{{ '<|end|>' }}{% endif %}{{ x }}", {{"x", "<|end|>"}}),
            "<|end|>〔<|end|>〕");
}

TEST(JinjaChatPrompt, RolesAndSpecialTokensAreTheTemplatesOwn) {
  const auto chat_template = Template::parse(
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{{ kwarg }}");
  ASSERT_TRUE(chat_template.has_value());
  ChatInput input{.messages = Json::array(
                      {{{"role", "user"}, {"content", "user"}}, {{"role", "<|x|>"}, {"content", ""}}}),
                  .kwargs = {{"kwarg", "K"}}};
  const auto rendered = render_chat_prompt(*chat_template, input, {{"bos_token", "<s>"}}, {});
  ASSERT_TRUE(rendered.has_value()) << rendered.error().message;
  EXPECT_EQ(rendered->text, "<s><|user|>user<|<|x|>|>K");
  EXPECT_EQ(rendered->said, (std::vector<Span>{{11, 15}, {17, 22}, {24, 25}}));
}

TEST(JinjaChatPrompt, TheLastMessageIsContinuedWhereItEnds) {
  const auto chat_template =
      Template::parse("{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}");
  const auto trims =
      Template::parse("{% for m in messages %}[{{ m.role }}]{{ m.content|trim }}</s>{% endfor %}");
  ChatInput input{.messages = Json::array(
                      {{{"role", "user"}, {"content", "Q"}}, {{"role", "assistant"}, {"content", "A: "}}}),
                  .end = ChatEnd::kContent};
  EXPECT_EQ(render_chat_prompt(*chat_template, input, {}, {})->text, "[user]Q</s>[assistant]A: ");
  EXPECT_EQ(render_chat_prompt(*trims, input, {}, {})->text, "[user]Q</s>[assistant]A:");
  EXPECT_EQ(render_chat_prompt(*chat_template, input, {}, {})->said.back(), (Span{22, 25}));
  input.messages.back()["content"] = nullptr;
  EXPECT_FALSE(render_chat_prompt(*chat_template, input, {}, {}).has_value());
  input.kwargs = {{"messages", 1}};
  EXPECT_FALSE(render_chat_prompt(*chat_template, input, {}, {}).has_value());
}

}  // namespace
}  // namespace odmoe::jinja
