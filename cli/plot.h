// Small charts for a terminal, drawn with block characters.
#pragma once

#include <string>
#include <vector>

namespace odmoe::cli {

struct Bar {
  std::string label;
  double value = 0;  // not negative
  std::string note;  // behind the bar
};

// A line for each bar, the largest `columns` wide, in steps of an eighth of a character; a line for a value
// that is not zero shows at least that.
std::string bar_chart(const std::vector<Bar>& bars, int columns);

}  // namespace odmoe::cli
