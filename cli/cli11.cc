// CLI11, which is headers alone, compiled once: CLI11_COMPILE (CMakeLists.txt) leaves its functions out of
// the sources that include it, which then take 2 s each instead of 8.
#include <CLI/CLI.hpp>
// What CLI11's own src/Precompile.cpp has.
#include <CLI/impl/App_inl.hpp>
#include <CLI/impl/Argv_inl.hpp>
#include <CLI/impl/Config_inl.hpp>
#include <CLI/impl/Encoding_inl.hpp>
#include <CLI/impl/Formatter_inl.hpp>
#include <CLI/impl/Option_inl.hpp>
#include <CLI/impl/Split_inl.hpp>
#include <CLI/impl/StringTools_inl.hpp>
#include <CLI/impl/Validators_inl.hpp>
