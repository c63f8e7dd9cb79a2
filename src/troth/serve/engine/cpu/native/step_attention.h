// Attention of a step: queries, keys and values of its rows, the cache, and what the heads found.
#pragma once
#include <cmath>
#include <vector>

#include "buffers.h"
#include "cache.h"
#include "decoder.h"
#include "latent_attention.h"
#include "threads.h"

namespace troth {

class Attention {
  public:
    Attention(const Model &model, int most)
        : model(model), width(model.heads * model.head_size), qkv_width(up_to(model.layer[0].qkv.outputs, PANEL)),
          out_size(model.latent ? model.latent : model.head_size), qkv(size_t(most) * qkv_width * 4),
          joined(most, model.heads * model.value_size), queries(size_t(most) * width * 4),
          attended(size_t(most) * model.heads * out_size * 4), angles(size_t(most) * model.turned * 4), positions(most) {}

    void plan(const Span *spans, int count) {
        tiles.clear();
        for (const Span *span = spans; span < spans + count; span++) {
            const int all = span->count * (model.heads / model.kv_heads), parts = (all + TILE - 1) / TILE;
            const int size = (all + parts - 1) / parts;
            for (int t = 0; t < span->count; t++) positions[span->row + t] = span->start + t;
            // The last tiles see most: they go first, so that no thread waits long for another at the end.
            for (int first = (parts - 1) * size; first >= 0; first -= size)
                for (int head = 0; head < model.kv_heads; head++)
                    if (first < all) tiles.push_back({span, head, first, std::min(size, all - first)});
        }
    }

    // The angles of a row's position.
    void turn(int row) {
        const int half = model.turned / 2;
        float *angle = angles.floats() + size_t(row) * model.turned;
        for (int i = 0; i < half; i++) {
            const float x = float(positions[row]) / model.periods[i];
            angle[i] = std::cos(x) * model.rotary_scale;
            angle[half + i] = std::sin(x) * model.rotary_scale;
        }
    }

    // Norms and turns a row's queries and keys, and stores keys and values in the cache.
    void keep(const Layer &layer, int row) {
        const int size = model.head_size, keys = model.kv_heads * size;
        float *q = qkv.floats() + size_t(row) * qkv_width, *k = q + width, *v = k + keys;
        if (model.qk_norm == WIDTH) {
            rms_norm(q, q, layer.q_norm, width, model.eps);
            rms_norm(k, k, layer.k_norm, keys, model.eps);
        }
        for (int i = 0; i < model.heads + model.kv_heads; i++) {
            float *x = q + i * size;
            if (model.qk_norm == HEAD) rms_norm(x, x, i < model.heads ? layer.q_norm : layer.k_norm, size, model.eps);
            if (layer.rotary) rotate(x, angles.floats() + size_t(row) * size, size / 2);
        }
        for (int head = 0; head < model.kv_heads; head++, k += size, v += size) store(layer, row, head, k, v);
        float *to = queries.floats() + size_t(row) * width;
        if (rows_are_float(model.cache_kind)) std::memcpy(to, q, width * 4);
        else
            for (int i = 0; i < width; i += 16) store_bf16(reinterpret_cast<uint16_t *>(to) + i, load(q + i));
    }

    // Puts a row's key and value of one head into the cache.
    void store(const Layer &layer, int row, int head, const float *k, const float *v) {
        const Span *span = span_of(row);
        const int position = positions[row], lane = position % BLOCK;
        const size_t block = span->blocks[layer.window > 0][position / BLOCK];
        const size_t at = block * model.kv_heads + head, bytes = block_bytes();
        const CacheBlock kept{
            layer.keys + at * bytes, v ? layer.values + at * bytes : nullptr, layer.key_scales + at * key_scales(),
            layer.value_scales + at * BLOCK, model.head_size, model.latent,
        };
        switch (model.cache_kind) {
            case F32: kept.keep_floats(lane, k, v); break;
            case WIDE_INT8: kept.keep_bytes<WIDE_INT8>(lane, k, v); break;
            case WIDE_FP8: kept.keep_bytes<WIDE_FP8>(lane, k, v); break;
            default: kept.keep_bf16(lane, k, v);
        }
    }

    // With `wanted`, which has a mark for each row, of the rows that have one and maybe others.
    void run(Pool &pool, const Layer &layer, const char *wanted) {
        pool.run(int(tiles.size()), [&](int task) {
            switch (model.cache_kind) {
                case F32: return attend_tile<F32>(layer, tiles[task], wanted);
                case PAIRS: return attend_tile<PAIRS>(layer, tiles[task], wanted);
                case WIDE_INT8: return attend_tile<WIDE_INT8>(layer, tiles[task], wanted);
                case WIDE_FP8: return attend_tile<WIDE_FP8>(layer, tiles[task], wanted);
                default: return attend_tile<WIDE>(layer, tiles[task], wanted);
            }
        });
    }

    // A row's heads beside each other, behind their gate, as the output's weight takes them.
    void join(const Layer &layer, int row) {
        float *x = attended.floats() + size_t(row) * width;
        if (model.gated_attention) {
            const float *gate = qkv.floats() + size_t(row) * qkv_width + width + 2 * model.kv_heads * model.head_size;
            for (int i = 0; i < width; i += 16)
                troth::store(x + i, load(x + i) * sigmoid(load(gate + i)));
        }
        joined.rows.put(layer.o.kind, row, x, width);
    }

  private:
    struct Tile {
        const Span *span;
        int head, first, count;  // queries of one key head, those of one position beside each other
    };

    // Of a head's keys, or its values.
    size_t block_bytes() const {
        return size_t(model.head_size / word_inputs(model.cache_kind)) * word_bytes(model.cache_kind) * BLOCK;
    }

    // Of a block of a head's keys in 8 bit.
    int key_scales() const { return model.latent ? 2 * BLOCK : BLOCK; }

    // Which product is rounded is said, for compilers choose differently where they may.
    static void rotate(float *x, const float *angle, int half) {
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[half + i];
            x[i] = std::fma(a, angle[i], -(b * angle[half + i]));
            x[half + i] = std::fma(b, angle[i], a * angle[half + i]);
        }
    }

    const Span *span_of(int row) const {
        // Tiles are in the order of their spans, and every span has some.
        size_t low = 0, high = tiles.size();
        while (high - low > 1) {
            size_t middle = (low + high) / 2;
            (tiles[middle].span->row <= row ? low : high) = middle;
        }
        return tiles[low].span;
    }

    template <int KIND> void attend_tile(const Layer &layer, const Tile &tile, const char *wanted) {
        const int size = model.head_size, group = model.heads / model.kv_heads;
        Query some[TILE];
        bool any = false;
        for (int i = 0; i < tile.count; i++) {
            const int t = (tile.first + i) / group, head = tile.head * group + (tile.first + i) % group;
            const int row = tile.span->row + t, position = tile.span->start + t;
            const size_t at = size_t(row) * width;
            float temperature = 1;
            if (model.temperature_from > 0)
                temperature = std::log2(std::max(float(position), model.temperature_from)) /
                              std::log2(model.temperature_from);
            const int32_t *words = reinterpret_cast<const int32_t *>(queries.floats() + at);
            some[i] = {
                words + head * size / (rows_are_float(KIND) ? 1 : 2),
                attended.floats() + (size_t(row) * model.heads + head) * out_size,
                layer.window > 0 ? std::max(0, position - layer.window + 1) : 0, position, temperature,
                layer.sinks ? layer.sinks[head] : -std::numeric_limits<float>::infinity(),
            };
            any |= wanted && wanted[row];
        }
        if (wanted && !any) return;
        const size_t bytes = block_bytes();
        const Head head{
            layer.keys + tile.head * bytes, (model.latent ? layer.keys : layer.values) + tile.head * bytes,
            layer.key_scales + tile.head * key_scales(),
            (model.latent ? layer.key_scales : layer.value_scales) + tile.head * key_scales(), model.kv_heads * bytes,
            size_t(model.kv_heads) * key_scales(), tile.span->blocks[layer.window > 0], size, tile.span->count == 1,
        };
        const Scoring scoring{model.attention_scale, model.attention_softcap};
        if constexpr (KIND != PAIRS)
            if (model.latent) return attend_latent_rows<KIND>(tile.count, some, head, model.latent, scoring);
        attend_rows<KIND>(tile.count, some, head, scoring);
    }

    const Model &model;
    const int width;

  public:
    const int qkv_width, out_size;
    Buffer qkv;
    RowsBuffer joined;
    Buffer queries, attended, angles;  // queries of heads in the cache's kind; what heads found, `out_size` numbers each

  private:
    std::vector<int> positions;
    std::vector<Tile> tiles;
};

}  // namespace troth
