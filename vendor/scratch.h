// Temporary memory of a kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tulu {

// Grows on demand and is reused for the next call.
class scratch {
  public:
    // Returns at least `bytes` bytes, aligned to 64, with undefined contents.
    char * take(size_t bytes) {
        constexpr size_t ALIGNMENT = 64;
        if (bytes > size) {
            memory.reset();
            memory.reset(new char[bytes + ALIGNMENT]);
            size = bytes;
        }
        const auto at = reinterpret_cast<uintptr_t>(memory.get());
        return memory.get() + (ALIGNMENT - at % ALIGNMENT) % ALIGNMENT;
    }

  private:
    std::unique_ptr<char[]> memory;
    size_t size = 0;
};

}  // namespace tulu
