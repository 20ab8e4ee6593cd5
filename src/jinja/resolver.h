// Finds out, before a template runs, which variable each name means.
//
// jinja2 compiles templates to Python functions, and what a name means follows from it: a variable that a
// scope sets anywhere is the scope's own, and begins as that of the scope around it (or of the caller) where
// it is read first or set in a branch only, and as nothing where it is set first.  Macros, bodies of calls
// and recursive loops are functions, which see the variables around them as they are when they run.  The
// resolver follows jinja2's own analysis (idtracking.py) step by step.
#pragma once

#include "jinja/ast.h"

namespace odmoe::jinja {

// Also raises kSyntax for what jinja2 finds when it compiles: filters and tests that do not exist (but for
// those in branches, which may never run), `break` outside of a loop, assignments to `loop`.
void resolve(Tree& tree);

}  // namespace odmoe::jinja
