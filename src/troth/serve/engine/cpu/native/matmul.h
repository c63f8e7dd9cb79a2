// Rows times packed weights: a panel is multiplied with all rows that need it while it is in the core's cache.
#pragma once
#include "tiles.h"

namespace troth {

template <int KIND, class Add, class Emit>
void panel_of(const Matrix &w, int panel, const Rows &x, const int *which, int count, Add add, Emit emit) {
    alignas(64) float out[TILE][PANEL];
    const char *data = w.panel(panel);
    const size_t bytes = w.panel_bytes();
    // About as many rows at each use of the panel: the fewer there are, the longer one takes.
    const int passes = (count + TILE - 1) / TILE;
    for (int pass = 0, at = 0, rows; pass < passes; pass++, at += rows) {
        rows = (count - at + passes - pass - 1) / (passes - pass);
        switch (rows) {
            case 1: tile<KIND, 1>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 2: tile<KIND, 2>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 3: tile<KIND, 3>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 4: tile<KIND, 4>(pass, data, bytes, x, which + at, w.inputs, out); break;
            case 5: tile<KIND, 5>(pass, data, bytes, x, which + at, w.inputs, out); break;
            default: tile<KIND, 6>(pass, data, bytes, x, which + at, w.inputs, out);
        }
        for (int r = 0; w.bias && r < rows; r++)
            UNROLL for (int v = 0; v < 4; v++)
                store(out[r] + 16 * v, load(out[r] + 16 * v) + load(w.bias + panel * PANEL + 16 * v));
        add(at, rows, out);
        for (int r = 0; r < rows; r++) emit(at + r, out[r]);
    }
}

// One panel of outputs for `count` rows of x, whose numbers are in `which`: emit(i, 64 floats) for each, before which
// add(i, rows, outputs) may add to those of a few rows from the i-th on.
template <class Add, class Emit>
void multiply(const Matrix &w, int panel, const Rows &x, const int *which, int count, Add add, Emit emit) {
    switch (w.kind) {
        case F32: return panel_of<F32>(w, panel, x, which, count, add, emit);
        case PAIRS: return panel_of<PAIRS>(w, panel, x, which, count, add, emit);
        case WIDE: return panel_of<WIDE>(w, panel, x, which, count, add, emit);
        case INT8: return panel_of<INT8>(w, panel, x, which, count, add, emit);
        case MXFP4: return panel_of<MXFP4>(w, panel, x, which, count, add, emit);
        default: return panel_of<INT4>(w, panel, x, which, count, add, emit);
    }
}

template <class Emit>
void multiply(const Matrix &w, int panel, const Rows &x, const int *which, int count, Emit emit) {
    multiply(w, panel, x, which, count, [](int, int, float (*)[PANEL]) {}, emit);
}

}  // namespace troth
