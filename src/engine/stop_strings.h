// Finds stop strings in text that arrives in pieces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe {

// Holds back what might be the beginning of a stop string, so that nothing of one is ever shown.  Takes time
// in proportion to the text, whatever the stop strings are, and four bytes for each of theirs.  One owner.
class StopStrings {
 public:
  // Empty strings never match.
  explicit StopStrings(std::vector<std::string> stops);

  // Returns the text that is now certain to be shown.
  std::string push(std::string_view text);
  // Whether a stop string has been found; push() returns nothing from then on.
  bool stopped() const { return stopped_; }
  // Which: of several that the text has, the one that begins first.  Empty until then.
  const std::string& found() const { return found_; }
  // What was held back, when the text ends without a stop string.
  std::string finish();

 private:
  struct Stop {
    std::string text;
    // [bytes of text]: of its first i + 1 bytes, how many at their end are its beginning too
    // (Knuth-Morris-Pratt).
    std::vector<uint32_t> borders;
    uint32_t matched = 0;  // how much of its beginning the text ends with
  };
  std::vector<Stop> stops_;
  std::string pending_;
  bool stopped_ = false;
  std::string found_;
};

}  // namespace odmoe
