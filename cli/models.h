// The families of models that the program runs, as `odmoe models` shows them.
#pragma once

#include <span>
#include <string>

#include "model/arch/architecture.h"

namespace odmoe::cli {

// Of each family its name and models, then what stands behind them, in lines for people.
std::string families_text(std::span<const FamilyInfo> families);

// A table in Markdown, with a row for each family: what docs/models.md has.
std::string families_markdown(std::span<const FamilyInfo> families);

}  // namespace odmoe::cli
