// What holds a text to a form while it is written: which tokens may come next, and when it is whole.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "odmoe/result.h"
#include "odmoe/session.h"

namespace odmoe {

// Follows one text.  One owner.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Sets the logits [n_vocab] of what may not come next to -infinity: of end tokens too, where the text may
  // not end.  It need not leave a token.
  virtual void mask(std::span<float> logits) = 0;
  // The token was chosen, one that mask() left.  False when the text is whole with it, so that nothing more
  // may follow.
  virtual bool accept(Token token) = 0;

  // For those that find no token left:
  // Whether the text may end as it is.
  virtual bool complete() const = 0;
  // Whether mask() leaves this token.  Where anything may be written, true for every token.
  virtual bool allows(Token token) = 0;
  // Why mask() leaves no token of the vocabulary; nothing: it leaves some.  `where`: "", or " after 3
  // tokens".
  virtual std::optional<Error> dead_end(std::string_view where) = 0;
  // "the byte 'e'"; empty where anything may be written.
  virtual std::string what_may_follow() = 0;
};

}  // namespace odmoe
