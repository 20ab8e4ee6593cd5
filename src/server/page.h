// The live page, made of the files in page/ when the server is built.
#pragma once

#include <span>
#include <string_view>
#include <utility>

namespace odmoe::server {

// One HTML document that asks for nothing but the server that it came from.
std::string_view live_page();

// What it is sent with: above all a content security policy that lets run what it was made of, by hash, and
// nothing else.
std::span<const std::pair<const char*, const char*>> live_page_headers();

}  // namespace odmoe::server
