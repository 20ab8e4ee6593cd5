# Puts the live page together: index.html with the styles and scripts in it, as a C++ source.
#
#   cmake -D FOLDER=... -D OUTPUT=... -P embed.cmake
cmake_minimum_required(VERSION 3.28)

# The scripts in the order in which they use each other.
set(scripts format.js feed.js figures.js expert_map.js markdown.js markdown_view.js conversations.js conversation_list.js settings.js answer.js
            chat.js page.js)

# base64_of_hex(OUT HEX): as a policy wants a hash.
function(base64_of_hex out hex)
  set(digits ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  set(text)
  string(LENGTH "${hex}" length)
  math(EXPR last "${length} - 1")
  foreach(at RANGE 0 ${last} 6) # three bytes, four digits
    string(SUBSTRING "${hex}" ${at} 6 part)
    string(LENGTH "${part}" have)
    string(SUBSTRING "${part}00000" 0 6 part)
    foreach(shift 18 12 6 0)
      math(EXPR digit "(0x${part} >> ${shift}) & 63")
      string(SUBSTRING ${digits} ${digit} 1 digit)
      # Of 24 bits those are padding that no byte of the hash reaches.
      math(EXPR reached "4 * ${have} + ${shift}")
      if(reached GREATER 18)
        string(APPEND text ${digit})
      else()
        string(APPEND text =)
      endif()
    endforeach()
  endforeach()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

# put_in(MARK TEXT): for the one place in page where MARK stands.
function(put_in mark text)
  string(FIND "${page}" "${mark}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "index.html has no ${mark}")
  endif()
  string(LENGTH "${mark}" length)
  math(EXPR rest "${at} + ${length}")
  string(SUBSTRING "${page}" 0 ${at} before)
  string(SUBSTRING "${page}" ${rest} -1 after)
  set(page "${before}${text}${after}" PARENT_SCOPE)
endfunction()

file(READ "${FOLDER}/index.html" page)
file(READ "${FOLDER}/page.css" style)
set(script "\"use strict\";\n")
foreach(name IN LISTS scripts)
  file(READ "${FOLDER}/${name}" text)
  string(APPEND script "${text}")
endforeach()
string(SHA256 style_hash "${style}")
base64_of_hex(style_hash "${style_hash}")
string(SHA256 script_hash "${script}")
base64_of_hex(script_hash "${script_hash}")
put_in("/* STYLE */" "${style}")
put_in("/* SCRIPT */" "${script}")
if(page MATCHES "\\)page\"")
  message(FATAL_ERROR "the page holds what ends a raw string")
endif()

set(policy "default-src 'none'; script-src 'sha256-${script_hash}'; style-src 'sha256-${style_hash}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
# GCC takes a literal of any length, other compilers do not: pieces of 8000 bytes, cut between characters.
set(pieces)
string(LENGTH "${page}" length)
set(literal)
set(at 0)
while(at LESS length)
  string(SUBSTRING "${page}" ${at} 8000 piece)
  string(APPEND literal "    R\"page(${piece})page\"\n")
  math(EXPR at "${at} + 8000")
endwhile()
file(WRITE "${OUTPUT}" "// Made by page/embed.cmake.
#include \"server/page.h\"

#include <array>

namespace odmoe::server {

std::string_view live_page() {
  static constexpr std::string_view kPage =
${literal}      ;
  return kPage;
}

std::span<const std::pair<const char*, const char*>> live_page_headers() {
  static constexpr auto kHeaders = std::to_array<std::pair<const char*, const char*>>({
      {\"Content-Security-Policy\", \"${policy}\"},
      {\"X-Content-Type-Options\", \"nosniff\"},
      {\"Referrer-Policy\", \"no-referrer\"},
      {\"Cross-Origin-Opener-Policy\", \"same-origin\"},
      {\"Cross-Origin-Resource-Policy\", \"same-origin\"},
      {\"Cache-Control\", \"no-cache\"},
  });
  return kHeaders;
}

}  // namespace odmoe::server
")
