// Copies text to a buffer of the Rust side.
#pragma once

#include <cstddef>
#include <cstring>

namespace tulu {

// Copies `text` with its NUL to `out`, which has `size` bytes; a longer text is truncated.
inline void copy_text(char * out, size_t size, const char * text) {
    if (size > 0) {
        std::strncpy(out, text, size - 1);
        out[size - 1] = '\0';
    }
}

}  // namespace tulu
