# find_package(Afterimage) gives Afterimage::Afterimage, the shared library beside this file's prefix.
get_filename_component(_afterimage_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_library(_afterimage_library NAMES afterimage_c PATHS "${_afterimage_prefix}/lib" NO_DEFAULT_PATH REQUIRED)
if(NOT TARGET Afterimage::Afterimage)
  add_library(Afterimage::Afterimage UNKNOWN IMPORTED)
  set_target_properties(Afterimage::Afterimage PROPERTIES
    IMPORTED_LOCATION "${_afterimage_library}"
    INTERFACE_INCLUDE_DIRECTORIES "${_afterimage_prefix}/include")
endif()
set(Afterimage_FOUND TRUE)
