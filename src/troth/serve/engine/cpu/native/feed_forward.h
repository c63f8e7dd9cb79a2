// Feed-forwards of a step: each unit goes once over all rows that chose it, whatever their number.
#pragma once
#include <vector>

#include "adapters.h"
#include "buffers.h"
#include "decoder.h"
#include "routing.h"
#include "threads.h"

namespace troth {

class FeedForward {
  public:
    FeedForward(const Model &model, int most) : model(model), hidden(up_to(model.hidden, PANEL)) {
        int units = 0, inner = 0, experts = 0;
        for (int i = 0; i < model.layers; i++) {
            const Layer &layer = model.layer[i];
            units = std::max(units, layer.routed + layer.others);
            experts = std::max(experts, layer.routed);
            for (int u = 0; u < layer.routed + layer.others; u++) inner = std::max(inner, layer.units[u].down.inputs);
        }
        const int slots_a_row = model.slots_a_row();
        experts_width = up_to(std::max(experts, 1), PANEL);
        routed = RowsBuffer(most, model.hidden);
        router = Buffer(size_t(most) * experts_width * 4);
        gates = Buffer(size_t(most) * model.top_k * 4);
        outs = Buffer(size_t(most) * slots_a_row * hidden * 4);
        inner_rows = RowsBuffer(most * slots_a_row, inner);
        chosen.resize(size_t(most) * model.top_k);
        starts.resize(units + 1);
        row_of.resize(size_t(most) * slots_a_row);
        slot_of.resize(size_t(most) * slots_a_row);
    }

    // `normed` has the rows `live` in the kind of the units' weights, `routed` in float32.
    void run(Pool &pool, const Layer &layer, Adapters &adapters, const Rows &normed, const int *live, int live_count) {
        count = live_count;
        const int top = layer.routed ? model.top_k : 0, units = layer.routed + layer.others;
        if (layer.routed) {
            const int panels = layer.router.panels(), parts = (count + TILE - 1) / TILE;
            pool.run(adapters.parts(layer.router, count), [&](int part) {
                adapters.shrink(layer.router, part, routed.rows, live, live, live, count);
            });
            pool.run(panels * parts, [&](int task) {
                const int part = task / panels, panel = task % panels, first = part * TILE;
                multiply(layer.router, panel, routed.rows, live + first, std::min(TILE, count - first),
                         adapters.added(layer.router, panel, live + first, live + first), [&](int i, const float *out) {
                             float *row = router.floats() + size_t(first + i) * experts_width;
                             std::memcpy(row + PANEL * panel, out, PANEL * 4);
                         });
            });
            pool.run(parts, [&](int part) {
                for (int i = part * TILE; i < std::min(count, (part + 1) * TILE); i++)
                    route(model, layer.expert_bias, router.floats() + size_t(i) * experts_width, layer.routed,
                          chosen.data() + size_t(i) * top, gates.floats() + size_t(i) * top);
            });
        }
        // Slots: `top` for each row, then one for each row and each unit that all go through; sorted by their units.
        std::fill(starts.begin(), starts.end(), 0);
        for (int i = 0; i < count * top; i++) starts[chosen[i] + 1]++;
        for (int u = layer.routed; u < units; u++) starts[u + 1] = count;
        for (int u = 0; u < units; u++) starts[u + 1] += starts[u];
        for (int i = 0; i < count * top; i++) {
            const int at = starts[chosen[i]]++;
            row_of[at] = live[i / top];
            slot_of[at] = i;
        }
        for (int u = layer.routed; u < units; u++)
            for (int i = 0; i < count; i++) {
                const int at = starts[u]++;
                row_of[at] = live[i];
                slot_of[at] = count * (top + u - layer.routed) + i;
            }
        for (int u = units; u > 0; u--) starts[u] = starts[u - 1];
        starts[0] = 0;
        shrink(pool, layer, adapters, &Unit::gate_up, normed, row_of);
        plan(units, [&](int u) { return layer.units[u].gate_up.panels(); });
        pool.run(int(tasks.size()), [&](int task) {
            const int u = tasks[task].unit, panel = tasks[task].part;
            const Unit &unit = layer.units[u];
            const int first = starts[u];
            const int *rows = &row_of[first], *slots = &slot_of[first];
            multiply(unit.gate_up, panel, normed, rows, starts[u + 1] - first,
                     adapters.added(unit.gate_up, panel, rows, slots), [&](int i, const float *out) {
                         const Floats a = activate(load(out), load(out + 32));
                         const Floats b = activate(load(out + 16), load(out + 48));
                         inner_rows.rows.put32(unit.down.kind, slots[i], 32 * panel, a, b);
                     });
        });
        shrink(pool, layer, adapters, &Unit::down, inner_rows.rows, slot_of);
        plan(units, [&](int u) { return layer.units[u].down.panels(); });
        pool.run(int(tasks.size()), [&](int task) {
            const int u = tasks[task].unit, panel = tasks[task].part;
            const Unit &unit = layer.units[u];
            const int first = starts[u];
            const int *rows = &row_of[first], *slots = &slot_of[first];
            multiply(unit.down, panel, inner_rows.rows, slots, starts[u + 1] - first,
                     adapters.added(unit.down, panel, rows, slots), [&](int i, const float *out) {
                         std::memcpy(outs.floats() + size_t(slots[i]) * hidden + PANEL * panel, out, PANEL * 4);
                     });
        });
    }

    // Adds up what the units gave for the i-th of the live rows.
    void combine(const Layer &layer, int i, float *to) const {
        const int top = layer.routed ? model.top_k : 0;
        std::memset(to, 0, size_t(hidden) * 4);
        for (int j = 0; j < top; j++)
            add(to, outs.floats() + size_t(i * top + j) * hidden, gates.floats()[size_t(i) * top + j], model.hidden);
        for (int j = 0; j < layer.others; j++)
            add(to, outs.floats() + size_t(count * (top + j) + i) * hidden, 1.f, model.hidden);
        if (model.feed_forward_scale != 1)
            for (int d = 0; d < model.hidden; d++) to[d] *= model.feed_forward_scale;
    }

    // Experts and gates of the i-th of the live rows, `top_k` each.
    void report(int i, int32_t *experts, float *shares) const {
        std::copy_n(chosen.data() + size_t(i) * model.top_k, model.top_k, experts);
        std::copy_n(gates.floats() + size_t(i) * model.top_k, model.top_k, shares);
    }

    RowsBuffer routed;

  private:
    struct Task {
        int unit, part;
    };

    // What adapters make of the rows `which` of x, before the products of the units' `weight`.
    void shrink(
        Pool &pool, const Layer &layer, Adapters &adapters, Matrix Unit::*weight, const Rows &x,
        const std::vector<int> &which
    ) {
        const auto count = [&](int u) { return starts[u + 1] - starts[u]; };
        plan(layer.routed + layer.others, [&](int u) { return adapters.parts(layer.units[u].*weight, count(u)); });
        pool.run(int(tasks.size()), [&](int task) {
            const auto [u, part] = tasks[task];
            const int first = starts[u];
            adapters.shrink(layer.units[u].*weight, part, x, &which[first], &row_of[first], &slot_of[first], count(u));
        });
    }

    // A task for each part of each unit that rows go through.
    template <class Parts> void plan(int units, Parts parts) {
        tasks.clear();
        for (int u = 0; u < units; u++)
            if (starts[u + 1] > starts[u])
                for (int part = 0, count = parts(u); part < count; part++) tasks.push_back({u, part});
    }

    Floats activate(Floats gate, Floats up) const {
        if (model.activation == CLAMPED) {
            const Floats limit = broadcast(model.swiglu_limit), one = broadcast(1.f);
            gate = min(gate, limit);
            up = max(min(up, limit), zeros() - limit);
            return gate * sigmoid(gate * broadcast(model.swiglu_alpha)) * (up + one);
        }
        if (model.activation == GELU_TANH) {
            const Floats cube = gate * gate * gate;
            const Floats x = fma(cube, broadcast(0.044715f), gate);
            const Floats bent = tanh(x * broadcast(0.79788456080286535588f));
            return gate * broadcast(0.5f) * (bent + broadcast(1.f)) * up;
        }
        return gate * sigmoid(gate) * up;
    }

    const Model &model;
    const int hidden;
    int experts_width, count = 0;
    Buffer router, gates, outs;
    RowsBuffer inner_rows;
    std::vector<int> chosen, starts, row_of, slot_of;
    std::vector<Task> tasks;
};

}  // namespace troth
