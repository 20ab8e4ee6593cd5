#include "server/scheduler.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

}  // namespace
}  // namespace odmoe::server
