# Compiler and linker settings that every target shares.

option(ATOLL_FUZZ "build the fuzz targets (Clang only)" OFF)
option(ATOLL_PCH "parse common headers once a library: four tenths less to do for sanitizer builds" OFF)
set(ATOLL_SANITIZE "" CACHE STRING "sanitizers, as -fsanitize= takes them")

add_library(atoll_options INTERFACE)
target_compile_options(atoll_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers
  -fno-rtti -fno-exceptions -fvisibility=hidden)
target_include_directories(atoll_options INTERFACE ${CMAKE_SOURCE_DIR}/src)

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # GCC 12's library uses what it calls deprecated, in std::stable_sort.
  target_compile_options(atoll_options INTERFACE -Wthread-safety -Wno-gnu-statement-expression -Wno-error=deprecated-declarations)
endif()

if(ATOLL_SANITIZE)
  target_compile_options(atoll_options INTERFACE
    -fsanitize=${ATOLL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(atoll_options INTERFACE -fsanitize=${ATOLL_SANITIZE})
endif()

if(ATOLL_FUZZ)
  target_compile_options(atoll_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(MOLD mold)
if(MOLD)
  target_link_options(atoll_options INTERFACE -fuse-ld=mold)
endif()

find_program(CCACHE ccache)
if(CCACHE AND ATOLL_PCH)  # what ccache wants to hear before it looks at precompiled headers
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
elseif(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
