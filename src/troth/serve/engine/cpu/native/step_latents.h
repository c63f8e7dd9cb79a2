// What latent attention does before and after its scores: queries into the space of the latents that the cache keeps, and
// weighted sums of latents into what the heads put out (`model/latent_attention.py` says the same in torch).
#pragma once
#include "adapters.h"
#include "step_attention.h"

namespace troth {

// Of the latents' norms, whatever that of the others is.
constexpr float LATENT_EPS = 1e-6f;

class LatentSides {
  public:
    LatentSides(const Model &model, int most) : model(model), query(model.own + model.turned) {
        if (!model.latent) return;
        const size_t heads = size_t(most) * model.heads;
        if (model.query_latent) {
            narrow = RowsBuffer(most, model.query_latent);
            wide = Buffer(heads * query * 4 + size_t(most) * PANEL * 4);
        }
        own = RowsBuffer(int(heads), model.own);
        found = RowsBuffer(int(heads), model.latent);
        out = Buffer(heads * model.value_size * 4);
        places.resize(heads);
    }

    // From what `qkv` gave for rows 0 to `rows` - 1: their latents and keys into the cache, and their queries.
    void keep(Pool &pool, const Layer &layer, Attention &attention, Adapters &adapters, int rows) {
        const Latents &latents = layer.latents;
        const int first = model.query_latent ? model.query_latent : model.heads * query;
        const auto given = [&](int row) { return attention.qkv.floats() + size_t(row) * attention.qkv_width; };
        if (model.query_latent) expand(pool, latents, adapters, given, rows);
        pool.run(rows, [&](int row) {
            const float *angle = attention.angles.floats() + size_t(row) * model.turned;
            const float *q = model.query_latent ? wide.floats() + size_t(row) * wide_stride() : given(row);
            for (int head = 0; head < model.heads; head++, q += query) {
                const int at = row * model.heads + head;
                alignas(64) float padded[MOST_LATENT] = {};
                std::copy_n(q, model.own, padded);
                own.rows.put(latents.keys->kind, at, padded, latents.keys->inputs);
                turn(attention.queries.floats() + size_t(at) * model.head_size + model.latent, q + model.own, angle);
            }
            alignas(64) float key[MOST_KEY];
            rms_norm(key, given(row) + first, latents.norm, model.latent, LATENT_EPS);
            turn(key + model.latent, given(row) + first + model.latent, angle);
            attention.store(layer, row, 0, key, nullptr);
        });
        each_head(pool, latents.keys, own.rows, nullptr, rows, [&](int place, int panel, const float *part, int size) {
            float *to = attention.queries.floats() + size_t(place) * model.head_size;
            std::memcpy(to + PANEL * panel, part, size * 4);
        });
    }

    // What the heads of the rows `live` put out, beside each other, as the output's weight takes them.
    void join(Pool &pool, const Layer &layer, Attention &attention, const int *live, int count) {
        const Latents &latents = layer.latents;
        pool.run(count, [&](int i) {
            for (int head = 0; head < model.heads; head++) {
                const int at = live[i] * model.heads + head;
                found.rows.put(latents.values->kind, at, attention.attended.floats() + size_t(at) * model.latent, model.latent);
            }
        });
        each_head(pool, latents.values, found.rows, live, count, [&](int place, int panel, const float *part, int size) {
            std::memcpy(out.floats() + size_t(place) * model.value_size + PANEL * panel, part, size * 4);
        });
        const int width = model.heads * model.value_size;
        pool.run(count, [&](int i) {
            attention.joined.rows.put(layer.o.kind, live[i], out.floats() + size_t(live[i]) * width, width);
        });
    }

  private:
    int wide_stride() const { return up_to(model.heads * query, PANEL); }

    // Queries of all heads from their latents.
    template <class Given> void expand(Pool &pool, const Latents &latents, Adapters &adapters, Given given, int rows) {
        pool.run(rows, [&](int row) {
            alignas(64) thread_local static std::vector<float> x;
            x.assign(latents.queries.inputs, 0.f);
            rms_norm(x.data(), given(row), latents.query_norm, model.query_latent, LATENT_EPS);
            narrow.rows.put(latents.queries.kind, row, x.data(), latents.queries.inputs);
        });
        for (int row = 0; row < rows; row++) places[row] = row;
        const auto keep = [&](int row, int panel, const float *part) {
            std::memcpy(wide.floats() + size_t(row) * wide_stride() + PANEL * panel, part, PANEL * 4);
        };
        adapters.product(pool, latents.queries, narrow.rows, places.data(), rows, keep);
    }

    // Products of each head's own weight with its part of the rows `live`, or of the first `count`: emit(row and head,
    // panel, numbers, their count).
    template <class Emit>
    void each_head(Pool &pool, const Matrix *weights, const Rows &x, const int *live, int count, Emit emit) {
        for (int head = 0; head < model.heads; head++)
            for (int i = 0; i < count; i++) places[size_t(head) * count + i] = (live ? live[i] : i) * model.heads + head;
        const int panels = weights->panels();
        pool.run(model.heads * panels, [&](int task) {
            const int head = task / panels, panel = task % panels;
            const int *which = places.data() + size_t(head) * count;
            const int size = std::min(PANEL, weights->outputs - PANEL * panel);
            multiply(weights[head], panel, x, which, count,
                     [&](int i, const float *part) { emit(which[i], panel, part, size); });
        });
    }

    // Pairs that are neighbours (2i, 2i + 1) are turned, and their first parts then lie before their second ones.
    void turn(float *to, const float *x, const float *angle) const {
        const int half = model.turned / 2;
        for (int i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            to[i] = std::fma(a, angle[i], -(b * angle[half + i]));
            to[half + i] = std::fma(b, angle[i], a * angle[half + i]);
        }
    }

    const Model &model;
    const int query;  // numbers of a head's query
    RowsBuffer narrow, own, found;
    Buffer wide, out;
    std::vector<int> places;
};

}  // namespace troth
