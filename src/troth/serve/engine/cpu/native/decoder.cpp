// One step of a decoder: tokens of many sequences in, scores over the vocabulary out. `model/decoder.py` says the same
// in torch. A step is a row of phases; each phase shares its tasks among the threads, reads each weight that it needs
// once, and allocates nothing.
#include <chrono>
#include <memory>

#include "attention.h"
#include "decoder.h"
#include "routing.h"
#include "threads.h"

namespace troth {
namespace {

int up_to(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

struct Buffer {  // zeroed, on a cache line
    char *data = nullptr;
    Buffer() = default;
    explicit Buffer(size_t bytes) : data(static_cast<char *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
        std::memset(data, 0, (bytes + 127) / 64 * 64);
    }
    Buffer(Buffer &&other) noexcept : data(other.data) { other.data = nullptr; }
    Buffer &operator=(Buffer &&other) noexcept { return std::swap(data, other.data), *this; }
    ~Buffer() { std::free(data); }
    float *floats() const { return reinterpret_cast<float *>(data); }
};

struct RowsBuffer {
    Buffer words, scales, sums;
    Rows rows;
    RowsBuffer() = default;
    RowsBuffer(int count, int size) {
        size = up_to(size, GROUP);
        words = Buffer(size_t(count) * size * 4);
        scales = Buffer(size_t(count) * size / GROUP * 4);
        sums = Buffer(size_t(count) * size / GROUP * 4);
        rows = {words.data, scales.floats(), reinterpret_cast<int32_t *>(sums.data), size_t(size) * 4, size / GROUP};
    }
};

struct Task {
    int unit, panel;
};

class Decoder {
  public:
    Decoder(const Model &model, int most_rows, int threads) : model(model), most(most_rows), pool(threads) {
        int units = 0, inner = 0, experts = 0;
        for (int i = 0; i < model.layers; i++) {
            const Layer &layer = model.layer[i];
            int passes = (layer.routed ? model.top_k : 0) + layer.others;
            units = std::max(units, layer.routed + layer.others);
            slots_a_row = std::max(slots_a_row, passes);
            experts = std::max(experts, layer.routed);
            for (int u = 0; u < layer.routed + layer.others; u++) inner = std::max(inner, layer.units[u].down.inputs);
        }
        width = model.heads * model.head_size;
        qkv_width = up_to(model.layer[0].qkv.outputs, PANEL);
        hidden = up_to(model.hidden, PANEL);
        experts_width = up_to(std::max(experts, 1), PANEL);
        h = Buffer(size_t(most) * hidden * 4);
        delta = Buffer(size_t(most) * hidden * 4);
        qkv = Buffer(size_t(most) * qkv_width * 4);
        queries = Buffer(size_t(most) * width * 4);
        attended = Buffer(size_t(most) * width * 4);
        angles = Buffer(size_t(most) * model.head_size * 4);
        router = Buffer(size_t(most) * experts_width * 4);
        gates = Buffer(size_t(most) * model.top_k * 4);
        outs = Buffer(size_t(most) * slots_a_row * hidden * 4);
        normed = RowsBuffer(most, model.hidden);
        routed = RowsBuffer(most, model.hidden);
        joined = RowsBuffer(most, width);
        inner_rows = RowsBuffer(most * slots_a_row, inner);
        chosen.resize(size_t(most) * model.top_k);
        positions.resize(most);
        live.resize(most);
        wanted_row.resize(most);
        starts.resize(units + 1);
        row_of.resize(size_t(most) * slots_a_row);
        slot_of.resize(size_t(most) * slots_a_row);
    }

    // Scores of the wanted rows, or, with `states`, their hidden states after the last norm.
    void step(
        const int32_t *tokens, int rows, const Span *spans, int count, const int32_t *wanted, int wants, float *logits,
        float *states, int32_t *experts, float *shares
    ) {
        live_count = rows;
        for (int i = 0; i < rows; i++) live[i] = i, wanted_row[i] = 0;
        for (int i = 0; i < wants; i++) wanted_row[wanted[i]] = 1;
        plan_attention(spans, count);
        pool.run(rows, [&](int row) {
            embed(tokens[row], row);
            normalise(row, model.layer[0].input_norm, model.layer[0].qkv.kind, normed.rows);
        });
        for (int i = 0; i < model.layers; i++) {
            const Layer &layer = model.layer[i];
            const bool last = i + 1 == model.layers;
            pool.run(layer.qkv.panels(), [&](int panel) {
                multiply(layer.qkv, panel, normed.rows, live.data(), live_count, [&](int row, const float *out) {
                    std::memcpy(qkv.floats() + size_t(row) * qkv_width + PANEL * panel, out, PANEL * 4);
                });
            });
            pool.run(int(live_count), [&](int row) { keep(layer, row); });
            if (last && !wants) return;
            pool.run(int(attention.size()), [&](int task) {
                switch (model.cache_kind) {
                    case F32: return attend_tile<F32>(layer, attention[task], last);
                    case PAIRS: return attend_tile<PAIRS>(layer, attention[task], last);
                    default: return attend_tile<WIDE>(layer, attention[task], last);
                }
            });
            if (last) {
                std::copy_n(wanted, wants, live.begin());
                live_count = wants;
            }
            pool.run(live_count, [&](int i) { join(layer, live[i]); });
            pool.run(layer.o.panels(), [&](int panel) {
                multiply(layer.o, panel, joined.rows, live.data(), live_count, [&](int i, const float *out) {
                    std::memcpy(delta.floats() + size_t(live[i]) * hidden + PANEL * panel, out, PANEL * 4);
                });
            });
            pool.run(live_count, [&](int i) {
                int row = live[i];
                advance(row, layer.post_attention_norm);
                normalise(row, layer.pre_mlp_norm, layer.units[0].gate_up.kind, normed.rows);
                if (layer.routed) normalise(row, layer.pre_mlp_norm, F32, routed.rows);
            });
            feed_forward(layer);
            for (int w = 0; experts && layer.routed && w < wants; w++) {
                const size_t from = size_t(last ? w : wanted[w]) * model.top_k, to = (size_t(i) * wants + w) * model.top_k;
                std::copy_n(chosen.data() + from, model.top_k, experts + to);
                std::copy_n(gates.floats() + from, model.top_k, shares + to);
            }
            const float *norm = last ? model.final_norm : model.layer[i + 1].input_norm;
            const int kind = last ? model.head.kind : model.layer[i + 1].qkv.kind;
            pool.run(live_count, [&](int i) {
                combine(layer, i);
                advance(live[i], layer.post_mlp_norm);
                if (last && states)
                    rms_norm(states + size_t(i) * model.hidden, h.floats() + size_t(live[i]) * hidden, norm, model.hidden,
                             model.eps);
                else normalise(live[i], norm, kind, normed.rows);
            });
        }
        if (states) return;
        pool.run(model.head.panels(), [&](int panel) {
            const int size = std::min(PANEL, model.vocabulary - PANEL * panel);
            multiply(model.head, panel, normed.rows, live.data(), live_count, [&](int i, const float *out) {
                std::memcpy(logits + size_t(i) * model.vocabulary + PANEL * panel, out, size * 4);
            });
        });
    }

  private:
    struct Tile {
        const Span *span;
        int head, first, count;  // queries of one key head, those of one position beside each other
    };

    void plan_attention(const Span *spans, int count) {
        attention.clear();
        for (const Span *span = spans; span < spans + count; span++) {
            const int all = span->count * (model.heads / model.kv_heads), tiles = (all + TILE - 1) / TILE;
            const int size = (all + tiles - 1) / tiles;
            for (int t = 0; t < span->count; t++) positions[span->row + t] = span->start + t;
            // The last tiles see most: they go first, so that no thread waits long for another at the end.
            for (int first = (tiles - 1) * size; first >= 0; first -= size)
                for (int head = 0; head < model.kv_heads; head++)
                    if (first < all) attention.push_back({span, head, first, std::min(size, all - first)});
        }
    }

    void embed(int token, int row) {
        float *to = h.floats() + size_t(row) * hidden;
        const __m512 scale = _mm512_set1_ps(model.embedding_scale);
        const char *from = model.embedding + size_t(token) * model.hidden * (model.embedding_kind == F32 ? 4 : 2);
        for (int i = 0; i < model.hidden; i += 16) {
            __m512 x = model.embedding_kind == F32 ? _mm512_loadu_ps(reinterpret_cast<const float *>(from) + i)
                                                   : load_bf16(reinterpret_cast<const uint16_t *>(from) + i);
            _mm512_storeu_ps(to + i, _mm512_mul_ps(x, scale));
        }
        const int half = model.head_size / 2;
        float *angle = angles.floats() + size_t(row) * model.head_size;
        for (int i = 0; i < half; i++) {
            const float x = float(positions[row]) / model.periods[i];
            angle[i] = std::cos(x) * model.rotary_scale;
            angle[half + i] = std::sin(x) * model.rotary_scale;
        }
    }

    void normalise(int row, const float *norm, int kind, const Rows &to) {
        alignas(64) thread_local static std::vector<float> x;
        x.resize(hidden);
        rms_norm(x.data(), h.floats() + size_t(row) * hidden, norm, model.hidden, model.eps);
        to.put(kind, row, x.data(), model.hidden);
    }

    void advance(int row, const float *norm) {
        float *out = delta.floats() + size_t(row) * hidden;
        if (norm) rms_norm(out, out, norm, model.hidden, model.eps);
        add(h.floats() + size_t(row) * hidden, out, 1.f, model.hidden);
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
        const Span *span = span_of(row);
        const int position = positions[row], lane = position % BLOCK;
        const size_t block = span->blocks[layer.window > 0][position / BLOCK];
        for (int head = 0; head < model.kv_heads; head++, k += size, v += size) {
            const size_t at = (block * model.kv_heads + head) * size * BLOCK;
            if (model.cache_kind == F32) {
                float *key = reinterpret_cast<float *>(layer.keys) + at + lane;
                for (int d = 0; d < size; d++) key[d * BLOCK] = k[d];
                std::memcpy(reinterpret_cast<float *>(layer.values) + at + lane * size, v, size * 4);
            } else {
                alignas(64) uint16_t narrow[MOST_HEAD];
                for (int d = 0; d < size; d += 16) store_bf16(narrow + d, _mm512_loadu_ps(k + d));
                uint32_t *key = reinterpret_cast<uint32_t *>(layer.keys) + at / 2 + lane;
                for (int d = 0; d < size / 2; d++) std::memcpy(key + d * BLOCK, narrow + 2 * d, 4);
                for (int d = 0; d < size; d += 16) store_bf16(narrow + d, _mm512_loadu_ps(v + d));
                uint16_t *value = reinterpret_cast<uint16_t *>(layer.values) + at + (lane / 2) * size * 2 + lane % 2;
                for (int d = 0; d < size; d++) value[2 * d] = narrow[d];
            }
        }
        float *to = queries.floats() + size_t(row) * width;
        if (rows_are_float(model.cache_kind)) std::memcpy(to, q, width * 4);
        else
            for (int i = 0; i < width; i += 16) store_bf16(reinterpret_cast<uint16_t *>(to) + i, _mm512_loadu_ps(q + i));
    }

    static void rotate(float *x, const float *angle, int half) {
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[half + i];
            x[i] = a * angle[i] - b * angle[half + i];
            x[half + i] = b * angle[i] + a * angle[half + i];
        }
    }

    const Span *span_of(int row) const {
        // Tiles are in the order of their spans, and every span has some.
        size_t low = 0, high = attention.size();
        while (high - low > 1) {
            size_t middle = (low + high) / 2;
            (attention[middle].span->row <= row ? low : high) = middle;
        }
        return attention[low].span;
    }

    template <int KIND> void attend_tile(const Layer &layer, const Tile &tile, bool last) {
        const int size = model.head_size, group = model.heads / model.kv_heads;
        Query some[TILE];
        bool any = false;
        for (int i = 0; i < tile.count; i++) {
            const int t = (tile.first + i) / group, head = tile.head * group + (tile.first + i) % group;
            const int row = tile.span->row + t, position = tile.span->start + t;
            const size_t at = size_t(row) * width;
            float temperature = 1;
            if (model.temperature_from > 0)
                temperature = std::log2(std::max(float(position), model.temperature_from)) / std::log2(model.temperature_from);
            const int32_t *words = reinterpret_cast<const int32_t *>(queries.floats() + at);
            some[i] = {
                words + head * size / (rows_are_float(KIND) ? 1 : 2), attended.floats() + at + head * size,
                layer.window > 0 ? std::max(0, position - layer.window + 1) : 0, position, temperature,
                layer.sinks ? layer.sinks[head] : -std::numeric_limits<float>::infinity(),
            };
            any |= wanted_row[row];
        }
        if (last && !any) return;
        const size_t bytes = size_t(size) * BLOCK * (KIND == F32 ? 4 : 2);
        const Head head{
            layer.keys + tile.head * bytes, layer.values + tile.head * bytes, model.kv_heads * bytes,
            tile.span->blocks[layer.window > 0], size, tile.span->count == 1,
        };
        attend_rows<KIND>(tile.count, some, head, {model.attention_scale, model.attention_softcap});
    }

    void join(const Layer &layer, int row) {
        float *x = attended.floats() + size_t(row) * width;
        if (model.gated_attention) {
            const float *gate = qkv.floats() + size_t(row) * qkv_width + width + 2 * model.kv_heads * model.head_size;
            for (int i = 0; i < width; i += 16)
                _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), sigmoid(_mm512_loadu_ps(gate + i))));
        }
        joined.rows.put(layer.o.kind, row, x, width);
    }

    void feed_forward(const Layer &layer) {
        const int top = layer.routed ? model.top_k : 0, units = layer.routed + layer.others;
        if (layer.routed) {
            const int panels = layer.router.panels(), parts = (live_count + TILE - 1) / TILE;
            pool.run(panels * parts, [&](int task) {
                const int part = task / panels, panel = task % panels, first = part * TILE;
                multiply(layer.router, panel, routed.rows, live.data() + first, std::min(TILE, live_count - first),
                         [&](int i, const float *out) {
                             std::memcpy(router.floats() + size_t(first + i) * experts_width + PANEL * panel, out, PANEL * 4);
                         });
            });
            pool.run(parts, [&](int part) {
                for (int i = part * TILE; i < std::min(live_count, (part + 1) * TILE); i++)
                    route(model, layer.expert_bias, router.floats() + size_t(i) * experts_width, layer.routed,
                          chosen.data() + size_t(i) * top, gates.floats() + size_t(i) * top);
            });
        }
        // Slots: `top` for each row, then one for each row and each unit that all go through; sorted by their units.
        std::fill(starts.begin(), starts.end(), 0);
        for (int i = 0; i < live_count * top; i++) starts[chosen[i] + 1]++;
        for (int u = layer.routed; u < units; u++) starts[u + 1] = live_count;
        for (int u = 0; u < units; u++) starts[u + 1] += starts[u];
        for (int i = 0; i < live_count * top; i++) {
            const int at = starts[chosen[i]]++;
            row_of[at] = live[i / top];
            slot_of[at] = i;
        }
        for (int u = layer.routed; u < units; u++)
            for (int i = 0; i < live_count; i++) {
                const int at = starts[u]++;
                row_of[at] = live[i];
                slot_of[at] = live_count * (top + u - layer.routed) + i;
            }
        for (int u = units; u > 0; u--) starts[u] = starts[u - 1];
        starts[0] = 0;
        plan(layer, units, [](const Unit &unit) { return unit.gate_up.panels(); });
        pool.run(int(tasks.size()), [&](int task) {
            const auto [u, panel] = tasks[task];
            const Unit &unit = layer.units[u];
            const int first = starts[u];
            multiply(unit.gate_up, panel, normed.rows, row_of.data() + first, starts[u + 1] - first,
                     [&](int i, const float *out) {
                         const __m512 a = activate(_mm512_load_ps(out), _mm512_load_ps(out + 32));
                         const __m512 b = activate(_mm512_load_ps(out + 16), _mm512_load_ps(out + 48));
                         inner_rows.rows.put32(unit.down.kind, slot_of[first + i], 32 * panel, a, b);
                     });
        });
        plan(layer, units, [](const Unit &unit) { return unit.down.panels(); });
        pool.run(int(tasks.size()), [&](int task) {
            const auto [u, panel] = tasks[task];
            const int first = starts[u];
            multiply(layer.units[u].down, panel, inner_rows.rows, slot_of.data() + first, starts[u + 1] - first,
                     [&](int i, const float *out) {
                         std::memcpy(outs.floats() + size_t(slot_of[first + i]) * hidden + PANEL * panel, out, PANEL * 4);
                     });
        });
    }

    template <class Panels> void plan(const Layer &layer, int units, Panels panels) {
        tasks.clear();
        for (int u = 0; u < units; u++)
            if (starts[u + 1] > starts[u])
                for (int panel = 0; panel < panels(layer.units[u]); panel++) tasks.push_back({u, panel});
    }

    __m512 activate(__m512 gate, __m512 up) const {
        if (model.activation == CLAMPED) {
            const __m512 limit = _mm512_set1_ps(model.swiglu_limit), one = _mm512_set1_ps(1.f);
            gate = _mm512_min_ps(gate, limit);
            up = _mm512_max_ps(_mm512_min_ps(up, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
            return _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(_mm512_mul_ps(gate, _mm512_set1_ps(model.swiglu_alpha)))),
                                 _mm512_add_ps(up, one));
        }
        if (model.activation == GELU_TANH) {
            const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(gate, gate), gate);
            const __m512 x = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), gate);
            const __m512 bent = tanh(_mm512_mul_ps(x, _mm512_set1_ps(0.79788456080286535588f)));
            gate = _mm512_mul_ps(_mm512_mul_ps(gate, _mm512_set1_ps(0.5f)), _mm512_add_ps(bent, _mm512_set1_ps(1.f)));
            return _mm512_mul_ps(gate, up);
        }
        return _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), up);
    }

    void combine(const Layer &layer, int i) {
        const int top = layer.routed ? model.top_k : 0;
        float *to = delta.floats() + size_t(live[i]) * hidden;
        std::memset(to, 0, size_t(hidden) * 4);
        for (int j = 0; j < top; j++)
            add(to, outs.floats() + size_t(i * top + j) * hidden, gates.floats()[size_t(i) * top + j], model.hidden);
        for (int j = 0; j < layer.others; j++)
            add(to, outs.floats() + size_t(live_count * (top + j) + i) * hidden, 1.f, model.hidden);
        if (model.feed_forward_scale != 1)
            for (int d = 0; d < model.hidden; d++) to[d] *= model.feed_forward_scale;
    }

    const Model model;
    const int most;
    Pool pool;
    int width, qkv_width, hidden, experts_width, slots_a_row = 0, live_count = 0;
    Buffer h, delta, qkv, queries, attended, angles, router, gates, outs;
    RowsBuffer normed, routed, joined, inner_rows;
    std::vector<int> chosen, positions, live, starts, row_of, slot_of;
    std::vector<char> wanted_row;
    std::vector<Tile> attention;
    std::vector<Task> tasks;
};

// The shortest of many runs each, so that other programs change nothing.
bool pairs_are_faster() {
    const __m512 one = _mm512_set1_ps(1.f);
    auto shortest = [&](auto product) {
        auto best = std::chrono::nanoseconds::max();
        for (int run = 0; run < 50; run++) {
            __m512 sum[16];
            for (auto &x : sum) x = _mm512_setzero_ps();
            const auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < 500; i++)
                for (auto &x : sum) {
                    x = product(x);
                    asm volatile("" : "+v"(x));
                }
            best = std::min(best, std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start));
        }
        return best;
    };
    const auto pairs = shortest([&](__m512 x) { return _mm512_dpbf16_ps(x, (__m512bh)one, (__m512bh)one); });
    return pairs < 2 * shortest([&](__m512 x) { return _mm512_fmadd_ps(one, one, x); });
}

}  // namespace
}  // namespace troth

extern "C" {

// Whether this processor has what the products are made of.
int troth_supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bf16");
}

// Whether bfloat16 products are best done in PAIRS: whether one of them takes less than twice a float32 product's time.
int troth_pairs_are_faster() { return troth::pairs_are_faster(); }

// Sizes of the structures, so that the other side can see that it means the same.
void troth_sizes(int32_t *sizes) {
    sizes[0] = sizeof(troth::Matrix), sizes[1] = sizeof(troth::Unit), sizes[2] = sizeof(troth::Layer);
    sizes[3] = sizeof(troth::Model), sizes[4] = sizeof(troth::Span);
}

void *troth_open(const troth::Model *model, int most_rows, int threads) {
    return new troth::Decoder(*model, most_rows, threads);
}

void troth_close(void *decoder) { delete static_cast<troth::Decoder *>(decoder); }

// Scores [wants, vocabulary] of the wanted rows; or, where `states` is not null, their states [wants, hidden]. Where
// `experts` is not null, also the experts of the wanted rows and their gates, both [layers, wants, top_k].
void troth_step(
    void *decoder, const int32_t *tokens, int rows, const troth::Span *spans, int count, const int32_t *wanted, int wants,
    float *logits, float *states, int32_t *experts, float *gates
) {
    static_cast<troth::Decoder *>(decoder)->step(
        tokens, rows, spans, count, wanted, wants, logits, states, experts, gates
    );
}
}
