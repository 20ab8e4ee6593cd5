# odmoe_module(NAME [LIGHT] SOURCES ... [DEPENDS ...] [LINK ...] [TESTS ...])
#
# One folder, one static library odmoe_NAME.  DEPENDS names modules of a lower level, so these
# lines are the architecture; LINK names outside libraries.  TESTS are the unit tests that sit
# beside the sources; they become one program, odmoe_NAME_test, with CTest label NAME.  LIGHT: what takes time is
# done elsewhere (in ggml, on the drive, in other modules), so that with sanitizers it is compiled as fast as can be.
add_library(odmoe_flags INTERFACE)
target_compile_options(odmoe_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-sign-conversion -Wno-missing-field-initializers)
if(ODMOE_WERROR)
  target_compile_options(odmoe_flags INTERFACE -Werror)
endif()
if(ODMOE_SANITIZE)
  # For every object, GoogleTest's inlined code included: a mixed build reports what is not there.
  add_compile_options(-fsanitize=${ODMOE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ODMOE_SANITIZE})
  if(ODMOE_SANITIZE MATCHES address)
    add_compile_definitions(ODMOE_ADDRESS_SANITIZER)  # compilers do not agree on a name
  endif()
endif()
if(ODMOE_FUZZ)
  # What is fuzzed has to count where it comes by; everything does, so that all share their headers and the
  # fuzzers the libraries with the tests of this build.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# What tests do of their own is little: the time is in the modules, and in compiling the tests.  With sanitizers
# that is most of it: ten sources of the server's tests took Clang 48 s at -O1 and counting for the fuzzers, 14 without.
add_library(odmoe_test_flags INTERFACE)
target_link_libraries(odmoe_test_flags INTERFACE odmoe_flags)
target_compile_options(odmoe_test_flags INTERFACE $<$<CONFIG:Release>:-O1>)
if(ODMOE_SANITIZE)
  target_compile_options(odmoe_test_flags INTERFACE -O0)
endif()
if(ODMOE_FUZZ)
  target_compile_options(odmoe_test_flags INTERFACE -fno-sanitize=fuzzer-no-link)
endif()

# Headers that are compiled once for all modules, and for all tests.  A source still includes what it uses:
# ./dev lint compiles without.
set(odmoe_standard_headers <algorithm> <array> <atomic> <chrono> <condition_variable> <cstdint> <cstring> <expected>
    <filesystem> <format> <functional> <map> <memory> <mutex> <optional> <ranges> <set> <span> <string> <string_view>
    <thread> <unordered_map> <utility> <vector> ${ODMOE_PRECOMPILE})
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/precompiled.cc CONTENT "// Headers alone; CMake wants a source.\n")
add_library(odmoe_precompiled OBJECT ${PROJECT_BINARY_DIR}/precompiled.cc)
target_link_libraries(odmoe_precompiled PRIVATE odmoe_flags Threads::Threads)
target_precompile_headers(odmoe_precompiled PRIVATE ${odmoe_standard_headers})
if(ODMOE_SANITIZE)
  add_library(odmoe_precompiled_light OBJECT ${PROJECT_BINARY_DIR}/precompiled.cc)
  target_link_libraries(odmoe_precompiled_light PRIVATE odmoe_flags Threads::Threads)
  target_compile_options(odmoe_precompiled_light PRIVATE -O0)
  target_precompile_headers(odmoe_precompiled_light PRIVATE ${odmoe_standard_headers})
endif()
if(ODMOE_TESTS)
  # A program, since those are compiled for other addresses than libraries.
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/precompiled_main.cc CONTENT "int main() {}\n")
  add_executable(odmoe_precompiled_for_tests ${PROJECT_BINARY_DIR}/precompiled_main.cc)
  target_link_libraries(odmoe_precompiled_for_tests PRIVATE odmoe_test_flags Threads::Threads GTest::gmock)
  target_precompile_headers(odmoe_precompiled_for_tests PRIVATE ${odmoe_standard_headers} <gmock/gmock.h> <gtest/gtest.h>)
endif()

function(odmoe_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "LIGHT" "" "SOURCES;DEPENDS;LINK;TESTS")
  add_library(odmoe_${name} STATIC ${arg_SOURCES})
  add_library(odmoe::${name} ALIAS odmoe_${name})
  target_include_directories(odmoe_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  list(TRANSFORM arg_DEPENDS PREPEND odmoe::)
  target_link_libraries(odmoe_${name} PUBLIC ${arg_DEPENDS} ${arg_LINK} PRIVATE odmoe_flags)
  if(arg_LIGHT AND ODMOE_SANITIZE)
    target_compile_options(odmoe_${name} PRIVATE -O0)
    target_precompile_headers(odmoe_${name} REUSE_FROM odmoe_precompiled_light)
  else()
    target_precompile_headers(odmoe_${name} REUSE_FROM odmoe_precompiled)
  endif()
  if(ODMOE_TESTS AND arg_TESTS)
    odmoe_test(odmoe_${name}_test LABEL ${name} SOURCES ${arg_TESTS} DEPENDS ${name})
  endif()
endfunction()

# odmoe_test(TARGET LABEL l SOURCES ... DEPENDS modules ... [LINK ...])
# Threads that wait do so without spinning: tests share the machine with each other.
function(odmoe_test target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL" "SOURCES;DEPENDS;LINK")
  add_executable(${target} ${arg_SOURCES})
  list(TRANSFORM arg_DEPENDS PREPEND odmoe::)
  target_link_libraries(${target} PRIVATE ${arg_DEPENDS} ${arg_LINK} odmoe_test_flags GTest::gmock GTest::gtest_main)
  target_precompile_headers(${target} REUSE_FROM odmoe_precompiled_for_tests)
  target_compile_definitions(${target} PRIVATE ODMOE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS "${arg_LABEL}" TIMEOUT 600
                       ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()
