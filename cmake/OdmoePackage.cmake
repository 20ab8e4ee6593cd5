# The program as a package: `./dev package` makes one for Debian.  What is for developers (headers, the shared
# library) and for training stays out of it: both are for those who build.
set(CPACK_PACKAGE_NAME odmoe)
set(CPACK_PACKAGE_VENDOR odmoe)
set(CPACK_PACKAGE_CONTACT "The odmoe authors <maintainers@odmoe.example>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL program)
# Through DESTDIR, so that what is installed is told the place where it will be.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME odmoe)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)  # downloads are encrypted
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION
    "The part of a model that works on every token stays in memory; the routed\nexperts stay on the drive and pass through a bounded arena as tokens ask for\nthem. Runs conversations in a terminal, and a server for clients of OpenAI's\nAPI.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/debian/prerm ${PROJECT_SOURCE_DIR}/packaging/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
