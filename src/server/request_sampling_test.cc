#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(RequestSampling, CountsAreWholeNumbersHoweverTheyAreWritten) {
  const auto request = completion(complete(
      R"("max_tokens":16.0,"n":2.0,"top_k":7.0,"seed":1.0,"logprobs":3.0,"best_of":2.0,"stop_token_ids":[1.0,2])"));
  EXPECT_EQ(request.max_tokens, 16);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.seed, 1);
  EXPECT_EQ(request.top_logprobs, 3);
  EXPECT_THAT(request.stop_tokens, ElementsAre(1, 2));
  EXPECT_THAT(std::get<std::vector<Token>>(completion(R"({"prompt":[1.0,2.0]})").prompts[0]),
              ElementsAre(1, 2));
  EXPECT_EQ(completion_refuses(complete(R"("max_tokens":16.5)")), "max_tokens");
  EXPECT_EQ(completion_refuses(complete(R"("seed":1.5)")), "seed");
  EXPECT_EQ(completion_refuses(complete(R"("seed":1e300)")), "seed");
  EXPECT_EQ(completion_refuses(R"({"prompt":[1.5]})"), "prompt");
}

TEST(RequestSampling, NullIsAsGoodAsMissing) {
  for (const char* name : {"temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "seed",
                           "n",
                           "max_tokens",
                           "max_completion_tokens",
                           "stop",
                           "logprobs",
                           "logit_bias",
                           "stream",
                           "stream_options",
                           "presence_penalty",
                           "frequency_penalty",
                           "echo",
                           "stop_token_ids",
                           "ignore_eos",
                           "best_of",
                           "model",
                           "response_format"}) {
    const std::string more = odmoe::format("\"{}\":null", name);
    EXPECT_EQ(chat_refuses(ask(more)), "") << name;
    EXPECT_EQ(completion_refuses(complete(more)), "") << name;
  }
  EXPECT_EQ(completion(complete(R"("max_tokens":null)")).max_tokens, 16);
}

TEST(RequestSampling, WithoutALimitAsManyTokensAsFitAreWritten) {
  EXPECT_EQ(chat(ask(R"("max_tokens":-1)")).max_tokens, -1);
  EXPECT_EQ(completion(complete(R"("max_tokens":-1)")).max_tokens, -1);
  EXPECT_EQ(chat(ask(R"("max_tokens":1e12)")).max_tokens, std::numeric_limits<int32_t>::max());
  EXPECT_EQ(chat(ask(R"("max_tokens":0)")).max_tokens, 0);
  EXPECT_EQ(chat_refuses(ask(R"("max_tokens":-2)")), "max_tokens");
}

TEST(RequestSampling, TheLimitHasOtherNamesToo) {
  EXPECT_EQ(chat(ask(R"("n_predict":5)")).max_tokens, 5);
  EXPECT_EQ(chat(ask(R"("max_new_tokens":5)")).max_tokens, 5);
  EXPECT_EQ(chat(ask(R"("n_predict":5,"max_tokens":6,"max_completion_tokens":7)")).max_tokens, 7);
}

TEST(RequestSampling, ASeedOfMinusOneIsANewOne) {
  EXPECT_EQ(chat(ask(R"("seed":-1)")).seed, std::nullopt);
  EXPECT_EQ(chat(ask(R"("seed":-1.0)")).seed, std::nullopt);
  EXPECT_EQ(chat(ask(R"("seed":-3)")).seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(chat(ask(R"("random_seed":4)")).seed, 4);
  EXPECT_EQ(chat(ask(R"("seed":18446744073709551615)")).seed, std::numeric_limits<uint64_t>::max());
}

TEST(RequestSampling, NothingStopsAtAnEmptyString) {
  EXPECT_THAT(chat(ask(R"("stop":"")")).stop, IsEmpty());
  EXPECT_THAT(chat(ask(R"("stop":[])")).stop, IsEmpty());
  EXPECT_THAT(chat(ask(R"("stop":["","x"])")).stop, ElementsAre("x"));
  EXPECT_EQ(chat_refuses(ask(R"("stop":5)")), "stop");
}

TEST(RequestSampling, TopKHasTwoWaysToBeOff) {
  EXPECT_EQ(chat(ask(R"("top_k":-1)")).sampling.top_k, 0);
  EXPECT_EQ(chat(ask(R"("top_k":0)")).sampling.top_k, 0);
}

TEST(RequestSampling, AlternativesMayBeNone) {
  EXPECT_EQ(chat(ask(R"("top_logprobs":0)")).top_logprobs, -1);
  EXPECT_EQ(chat(ask(R"("logprobs":false,"top_logprobs":0)")).top_logprobs, -1);
  EXPECT_EQ(chat(ask(R"("logprobs":true,"top_logprobs":0)")).top_logprobs, 0);
  EXPECT_EQ(chat(ask(R"("logprobs":true)")).top_logprobs, 0);
  EXPECT_EQ(chat(ask(R"("logprobs":3)")).top_logprobs, 3);
  EXPECT_EQ(chat(ask(R"("logprobs":0)")).top_logprobs, -1);
  EXPECT_EQ(chat_refuses(ask(R"("top_logprobs":2)")), "top_logprobs");
  EXPECT_EQ(completion(complete(R"("logprobs":false)")).top_logprobs, -1);
  EXPECT_EQ(completion(complete(R"("logprobs":true)")).top_logprobs, 0);
  EXPECT_EQ(completion(complete(R"("logprobs":0)")).top_logprobs, 0);
}

TEST(RequestSampling, BiasesComeAsAnObjectOrAList) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  using Bias = std::pair<Token, float>;
  EXPECT_THAT(chat(ask(R"("logit_bias":{"5":false,"6":2.5})")).logit_bias,
              ElementsAre(Bias(5, kNever), Bias(6, 2.5F)));
  EXPECT_THAT(chat(ask(R"("logit_bias":[[5,false],["6",2.5],[7.0,-100]])")).logit_bias,
              ElementsAre(Bias(5, kNever), Bias(6, 2.5F), Bias(7, kNever)));
  EXPECT_THAT(chat(ask(R"("logit_bias":[])")).logit_bias, IsEmpty());
  EXPECT_EQ(chat_refuses(ask(R"("logit_bias":[["Hello",1]])")), "logit_bias");
  EXPECT_EQ(chat_refuses(ask(R"("logit_bias":[[1000,1]])")), "logit_bias");
  EXPECT_EQ(chat_refuses(ask(R"("logit_bias":[5])")), "logit_bias");
  EXPECT_EQ(chat_refuses(ask(R"("logit_bias":{"5":true})")), "logit_bias");
}

TEST(RequestSampling, OptionsOfAStreamAreReadWithOne) {
  EXPECT_FALSE(chat(ask(R"("stream_options":{"include_usage":true})")).include_usage);
  EXPECT_TRUE(chat(ask(R"("stream":true,"stream_options":{"include_usage":true,"include_obfuscation":true})"))
                  .include_usage);
  EXPECT_EQ(chat_refuses(ask(R"("stream_options":5)")), "stream_options");
}

TEST(RequestSampling, PenaltiesLookBackAsFarAsTheyAreTold) {
  EXPECT_EQ(chat(ask()).sampling.penalty_last_n, -1);
  EXPECT_EQ(chat(ask(R"("repeat_last_n":64)")).sampling.penalty_last_n, 64);
  EXPECT_EQ(chat_refuses(ask(R"("repeat_last_n":-2)")), "repeat_last_n");
}

}  // namespace
}  // namespace odmoe::server
