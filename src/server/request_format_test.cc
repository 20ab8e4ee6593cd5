#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::ElementsAre;

AnswerForm form(std::string_view more) {
  const AnswerForm of_chat = chat(ask(more)).form;
  const AnswerForm of_completion = completion(complete(more)).form;
  EXPECT_EQ(of_chat.kind, of_completion.kind) << more;
  EXPECT_EQ(of_chat.schema, of_completion.schema) << more;
  return of_chat;
}

TEST(RequestFormat, ASchemaIsHonouredWhereverItStands) {
  for (
      const char* more :
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}})",
       R"("response_format":{"type":"json_schema","schema":{"type":"object"}})",
       R"("response_format":{"type":"json_object","schema":{"type":"object"}})",
       R"("response_format":{"type":"json","value":{"type":"object"}})", R"("json_schema":{"type":"object"})",
       R"("json_schema":"{\"type\":\"object\"}")", R"("guided_json":{"type":"object"})",
       R"("guided_json":"{\"type\":\"object\"}")", R"("structured_outputs":{"json":{"type":"object"}})",
       R"("format":{"type":"object"})"}) {
    const AnswerForm read = form(more);
    EXPECT_EQ(read.kind, AnswerForm::Kind::kSchema) << more;
    EXPECT_EQ(read.schema, Json({{"type", "object"}})) << more;
  }
}

TEST(RequestFormat, AnyObjectIsAskedForInThreeWays) {
  for (const char* more : {R"("response_format":{"type":"json_object"})",
                           R"("response_format":{"type":"json_object","schema":{}})",
                           R"("response_format":{"type":"json_object","schema":null})",
                           R"("structured_outputs":{"json_object":true})", R"("format":"json")"}) {
    EXPECT_EQ(form(more).kind, AnswerForm::Kind::kObject) << more;
  }
}

TEST(RequestFormat, PatternsAndChoicesAreRead) {
  for (const char* more :
       {R"("guided_regex":"a+")", R"("regex":"a+")", R"("structured_outputs":{"regex":"a+"})",
        R"("response_format":{"type":"regex","value":"a+"})"}) {
    EXPECT_EQ(form(more).kind, AnswerForm::Kind::kPattern) << more;
    EXPECT_EQ(form(more).pattern, "a+") << more;
  }
  for (const char* more : {R"("guided_choice":["a","b"])", R"("structured_outputs":{"choice":["a","b"]})"}) {
    EXPECT_EQ(form(more).kind, AnswerForm::Kind::kChoice) << more;
    EXPECT_THAT(form(more).choices, ElementsAre("a", "b")) << more;
  }
}

TEST(RequestFormat, NoFormIsAskedForInManyWays) {
  for (const char* more :
       {R"("response_format":{"type":"text"})", R"("response_format":null)", R"("format":"")",
        R"("regex":"")", R"("guided_choice":[])", R"("structured_outputs":{})", R"("guided_json":null)",
        R"("grammar":"")", R"("guided_grammar":null)",
        R"("structured_outputs":{"json_object":false,"grammar":null})"}) {
    EXPECT_EQ(form(more).kind, AnswerForm::Kind::kText) << more;
  }
}

TEST(RequestFormat, WhatCannotBeHeldIsRefusedByName) {
  const auto refuses = [](const char* more) {
    EXPECT_EQ(chat_refuses(ask(more)), completion_refuses(complete(more)));
    return chat_refuses(ask(more));
  };
  EXPECT_EQ(refuses(R"("grammar":"root ::= \"a\"")"), "grammar");
  EXPECT_EQ(refuses(R"("ebnf":"root ::= \"a\"")"), "ebnf");
  EXPECT_EQ(refuses(R"("guided_grammar":"root ::= \"a\"")"), "guided_grammar");
  EXPECT_EQ(refuses(R"("structured_outputs":{"grammar":"root ::= \"a\""})"), "structured_outputs.grammar");
  EXPECT_EQ(refuses(R"("structured_outputs":{"structural_tag":"{}"})"), "structured_outputs.structural_tag");
  EXPECT_EQ(refuses(R"("structured_outputs":{"json":{},"disable_any_whitespace":true})"),
            "structured_outputs.disable_any_whitespace");
  EXPECT_EQ(refuses(R"("response_format":{"type":"grammar","grammar":"x"})"), "response_format.type");
  EXPECT_EQ(refuses(R"("response_format":{"type":"structural_tag"})"), "response_format.type");
  EXPECT_EQ(refuses(R"("response_format":{})"), "response_format.type");
  EXPECT_EQ(refuses(R"("response_format":{"type":"json_schema","json_schema":{"name":"n"}})"),
            "response_format.json_schema");
  EXPECT_EQ(refuses(R"("response_format":"json")"), "response_format");
  EXPECT_EQ(refuses(R"("format":"yaml")"), "format");
  EXPECT_EQ(refuses(R"("guided_json":"{")"), "guided_json");
  EXPECT_EQ(refuses(R"("guided_json":5)"), "guided_json");
  EXPECT_EQ(refuses(R"("guided_choice":"a")"), "guided_choice");
  EXPECT_EQ(refuses(R"("guided_choice":[5])"), "guided_choice");
  EXPECT_EQ(refuses(R"("guided_regex":["a"])"), "guided_regex");
}

TEST(RequestFormat, WhatCouldBeAFormAndIsNotKnownIsRefused) {
  EXPECT_EQ(chat_refuses(ask(R"("response_format":{"type":"json_object","json_schema":{"schema":{}}})")),
            "response_format.json_schema");
  EXPECT_EQ(chat_refuses(ask(R"("structured_outputs":{"jsn":{"type":"object"}})")), "structured_outputs");
}

TEST(RequestFormat, ASchemaThatIsATextIsReadOnTheRequestsAccount) {
  std::string schema = "[";
  for (int i = 0; i < 20'000; ++i) schema += "[],";
  schema += "1]";
  const std::string body = complete(R"("guided_json":")" + schema + "\"");
  const auto memory = std::make_shared<RequestMemory>(1 << 20);
  RequestWork work(memory, std::nullopt, nullptr, {});
  const auto request = parse_completion_request(body, kVocab, &work);
  ASSERT_FALSE(request.has_value());
  EXPECT_EQ(request.error().status, 413);
}

TEST(RequestFormat, TwoFormsAreOneTooMany) {
  EXPECT_EQ(chat_refuses(ask(R"("guided_json":{},"guided_regex":"a")")), "guided_regex");
  EXPECT_EQ(chat_refuses(ask(R"("response_format":{"type":"json_object"},"format":"json")")), "format");
  EXPECT_EQ(chat_refuses(ask(R"("structured_outputs":{"json":{},"choice":["a"]})")), "structured_outputs");
  EXPECT_EQ(chat_refuses(ask(R"("response_format":{"type":"text"},"format":"json")")), "");
}

}  // namespace
}  // namespace odmoe::server
