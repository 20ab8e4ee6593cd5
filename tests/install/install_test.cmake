# cmake -D BUILD=... -D PROJECT=... -D MODEL=... -D WORK=... -D GENERATOR=... -D COMPILER=... -P install_test.cmake
#
# Installs the build into an empty prefix, looks whether all is there, and builds and runs a project of someone
# else's against it, with nothing else of this tree in sight.
file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result)
    message(FATAL_ERROR "failed (${result}): ${ARGV}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
foreach(file bin/odmoe include/odmoe/engine.h share/man/man1/odmoe.1
        share/bash-completion/completions/odmoe share/zsh/site-functions/_odmoe
        share/fish/vendor_completions.d/odmoe.fish share/licenses/odmoe/LICENSE share/odmoe/models/demo.gguf)
  if(NOT EXISTS ${prefix}/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()

if(NOT APPLE)
  file(STRINGS ${prefix}/lib/systemd/system/odmoe.service command REGEX "^ExecStart=")
  if(NOT command MATCHES "^ExecStart=${prefix}/bin/odmoe serve \\\${ODMOE_MODEL} ")
    message(FATAL_ERROR "the service starts something else: ${command}")
  endif()
endif()

run(${CMAKE_COMMAND} -S ${PROJECT} -B ${WORK}/build -G ${GENERATOR} -D CMAKE_PREFIX_PATH=${prefix}
    -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/uses_odmoe ${MODEL})
if(NOT output MATCHES "\"hit_rate\"")
  message(FATAL_ERROR "the statistics are missing: ${output}")
endif()

# The program does not need the tree it was built in either.
run(${prefix}/bin/odmoe run ${MODEL} --prompt In --predict 4 --memory 25%)
