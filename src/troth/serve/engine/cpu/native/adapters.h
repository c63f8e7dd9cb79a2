// What LoRA adapters (2106.09685) add to products, to each row what its own request's adapter adds: B(A x), with the
// scale in B. Rows of one adapter go through A together, before the weight's own products; what B makes of that is
// added to each panel of outputs as it comes. With no adapter in a step nothing of this is done.
#pragma once
#include <algorithm>
#include <vector>

#include "buffers.h"
#include "decoder.h"
#include "threads.h"

namespace troth {

class Adapters {
  public:
    Adapters(const Model &model, int most)
        : narrow(model.rank ? most * model.slots_a_row() : 0, model.rank), adapter_of(most) {}

    void plan(const Span *spans, int count) {
        present.clear();
        for (const Span *span = spans; span < spans + count; span++) {
            std::fill_n(adapter_of.begin() + span->row, span->count, span->adapter);
            if (span->adapter >= 0 && std::find(present.begin(), present.end(), span->adapter) == present.end())
                present.push_back(span->adapter);
        }
    }

    // How many tasks A's products of `count` rows are.
    int parts(const Matrix &w, int count) const {
        return w.adapters && !present.empty() ? (count + PART - 1) / PART : 0;
    }

    // The `part`-th task: A's products of x's rows `which`, which belong to the step's `rows`, are kept in `slots`.
    void shrink(
        const Matrix &w, int part, const Rows &x, const int *which, const int *rows, const int *slots, int count
    ) {
        int from[PART], to[PART];
        const int begin = part * PART, end = std::min(count, begin + PART);
        for (int adapter : present) {
            const Matrix &a = w.adapters[adapter].a;
            int some = 0;
            for (int i = begin; i < end; i++)
                if (adapter_of[rows[i]] == adapter) from[some] = which[i], to[some++] = slots[i];
            for (int panel = 0; panel < a.panels(); panel++)
                multiply(a, panel, x, from, some, [&](int i, const float *out) {
                    char *place = narrow.rows.words + size_t(to[i]) * narrow.rows.stride;
                    std::memcpy(place + PANEL * panel * 4, out, PANEL * 4);
                });
        }
    }

    // For `multiply`: adds to a panel of outputs what the adapters add. The i-th row of the product is the step's
    // rows[i], and its product with A is in slots[i].
    auto added(const Matrix &w, int panel, const int *rows, const int *slots) const {
        return [=, this, &w](int at, int count, float (*out)[PANEL]) {
            if (!w.adapters || present.empty()) return;
            for (int first = 0, end; first < count; first = end) {
                const int adapter = adapter_of[rows[at + first]];
                for (end = first + 1; end < count && adapter_of[rows[at + end]] == adapter;) end++;
                if (adapter < 0 || !w.adapters[adapter].b.outputs) continue;
                multiply(w.adapters[adapter].b, panel, narrow.rows, slots + at + first, end - first,
                         [&](int i, const float *more) { add(out[first + i], more, 1.f, PANEL); });
            }
        };
    }

    // A weight's products with x's rows, which are the step's: emit(i, panel, 64 floats).
    template <class Emit>
    void product(Pool &pool, const Matrix &w, const Rows &x, const int *rows, int count, Emit emit) {
        pool.run(parts(w, count), [&](int part) { shrink(w, part, x, rows, rows, rows, count); });
        pool.run(w.panels(), [&](int panel) {
            multiply(w, panel, x, rows, count, added(w, panel, rows, rows),
                     [&](int i, const float *out) { emit(i, panel, out); });
        });
    }

  private:
    static constexpr int PART = 24;

    RowsBuffer narrow;
    std::vector<int> adapter_of, present;  // of each row, -1 for none; those that any row has
};

}  // namespace troth
