#include "grammar/grammar.h"

namespace odmoe::grammar {

size_t Grammar::bytes() const {
  return edges_.capacity() * sizeof(Edge) + first_edge_.capacity() * sizeof(uint32_t) + ends_.capacity() / 8 +
         heights_.capacity() * sizeof(uint16_t) + sets_.capacity() * sizeof(ByteSet) +
         starts_.capacity() * sizeof(uint32_t);
}

}  // namespace odmoe::grammar
