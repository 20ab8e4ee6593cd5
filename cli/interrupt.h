// Ctrl-C.  The first stops what the engine does, and the program ends in order; a second that comes before
// the first has been dealt with ends it at once.
#pragma once

#include "odmoe/engine.h"

namespace odmoe::cli::interrupt {

// From now on SIGINT is ours, unless the program was started with it ignored.
void install();
// From now on SIGTERM counts as SIGINT does.
void install_terminate();
// The engine that a SIGINT interrupts; null: none.
void watch(Engine* engine);
// Whether there was a SIGINT since the start or the last clear().
bool pending();
// Readable while pending(), for those who wait with poll(): asking pending() and then waiting would miss a
// signal that comes between.  -1: there is none to wait for.
int descriptor();
// As if there had been a SIGINT, but that it is never the second one.  Any thread.
void ring();
// It has been dealt with: the engine may go on.
void clear();

// Watches an engine for as long as it lives.
class Watch {
 public:
  explicit Watch(Engine& engine) { watch(&engine); }
  ~Watch() { watch(nullptr); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
};

}  // namespace odmoe::cli::interrupt
