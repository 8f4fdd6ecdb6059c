# Cross-compiling for 64-bit Arm with Debian's g++-aarch64-linux-gnu. Python's headers are the host's: of one version
# they are the same on all 64-bit machines.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# pybind11 would ask the host's Python, which says x86_64.
set(PYTHON_MODULE_EXTENSION .cpython-311-aarch64-linux-gnu.so CACHE INTERNAL "")
set(PYTHON_MODULE_DEBUG_POSTFIX "" CACHE INTERNAL "")
