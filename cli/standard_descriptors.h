// Standard input, output and error that are not open when the program starts (`odmoe ... <&- >&-`).
#pragma once

namespace odmoe::cli {

// Puts something in the place of each that is closed, so that no file, socket or pipe of the program's own
// gets its number and is read from or written to in its stead.  Using it fails, as with one that is closed:
// an error where text is to be read or written, nothing for what only logs.  Before anything else is opened;
// the programs that this one starts inherit it.
void hold_standard_descriptors();

}  // namespace odmoe::cli
