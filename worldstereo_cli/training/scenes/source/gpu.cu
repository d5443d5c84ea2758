// Kernels. All scene memory is laid out per image, so that an image depends on its own seed alone.
#include "render.h"

#define GENERATE_THREADS 128
#define TILE_EDGE 16

struct Buffers {
  Scene* scenes;
  Primitive* primitives;
  Material* materials;
  Node* nodes;
  int* order;
};

DEVICE World world_of(const Buffers& b, const Library* library, int image, int width) {
  World w;
  w.scene = b.scenes + image;
  w.primitives = b.primitives + (size_t)image * MAX_PRIMITIVES;
  w.materials = b.materials + (size_t)image * MAX_MATERIALS;
  w.nodes = b.nodes + (size_t)image * 2 * MAX_PRIMITIVES;
  w.order = b.order + (size_t)image * MAX_PRIMITIVES;
  w.library = *library;
  w.pixel = 2 * w.scene->tan_x / width;
  return w;
}

extern "C" __global__ void struct_sizes(int* out) {
  out[0] = sizeof(Scene);
  out[1] = sizeof(Primitive);
  out[2] = sizeof(Material);
  out[3] = sizeof(Node);
}

// One block writes one scene: a thread draws it, all build its tree and probe its camera.
extern "C" __global__ void __launch_bounds__(GENERATE_THREADS)
    generate(Scene* scenes, Primitive* primitives, Material* materials, Node* nodes, int* order, const Library* library,
             const u32* seeds, const float* mixture, float camera_spread, int width, int height) {
  __shared__ u32 keys[MAX_PRIMITIVES];
  __shared__ int buried;
  int image = blockIdx.x, lane = threadIdx.x;
  Buffers b = {scenes, primitives, materials, nodes, order};
  World w = world_of(b, library, image, width);
  Scene& scene = scenes[image];
  Primitive* mine = primitives + (size_t)image * MAX_PRIMITIVES;
  for (u32 attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    if (lane == 0) {
      write_scene(scene, mine, materials + (size_t)image * MAX_MATERIALS, *library, seeds[image], attempt, (float)width / height, mixture, camera_spread);
      buried = 0;
    }
    __syncthreads();
    build_tree(mine, scene, keys, order + (size_t)image * MAX_PRIMITIVES, nodes + (size_t)image * 2 * MAX_PRIMITIVES, lane, GENERATE_THREADS);
    for (int i = lane; i < scene.primitive_count; i += GENERATE_THREADS)
      if (inside_solid(w, mine[i], vec(scene.eye))) atomicAdd(&buried, 1000);
    for (int i = lane; i < PROBE_RAYS; i += GENERATE_THREADS) atomicAdd(&buried, count_near(w, i));
    __syncthreads();
    if (buried <= MAX_BURIED) {
      if (lane == 0) scene.valid = 1;
      return;
    }
    __syncthreads();
  }
}

// `cameras`: 16 numbers per image, read when `given`, else written. Threads of a warp cover 8 x 4 pixels.
extern "C" __global__ void __launch_bounds__(TILE_EDGE* TILE_EDGE)
    render(Scene* scenes, Primitive* primitives, Material* materials, Node* nodes, int* order, const Library* library,
           const u32* seeds, float* cameras, int given, int width, int height, int samples, float* rgb, float* depth, int* info) {
  int image = blockIdx.z, warp = threadIdx.x >> 5, in_warp = threadIdx.x & 31;
  int x = blockIdx.x * TILE_EDGE + (warp & 1) * 8 + (in_warp & 7), y = blockIdx.y * TILE_EDGE + (warp >> 1) * 4 + (in_warp >> 3);
  Buffers b = {scenes, primitives, materials, nodes, order};
  World w = world_of(b, library, image, width);
  PixelCamera camera = given ? read_camera(cameras + image * 16) : scene_camera(*w.scene, width, height);
  if (given) w.pixel = 1 / camera.fx;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
    if (!given) write_camera(camera, cameras + image * 16);
    info[image * 3] = w.scene->category;
    info[image * 3 + 1] = w.scene->valid;
    info[image * 3 + 2] = w.scene->primitive_count;
  }
  if (x >= width || y >= height) return;
  size_t pixels = (size_t)width * height, at = (size_t)y * width + x;
  float z;
  Vec3 light = render_pixel(w, camera, x, y, samples, seeds[image], z);
  float* out = rgb + image * 3 * pixels + at;
  out[0] = light.x;
  out[pixels] = light.y;
  out[2 * pixels] = light.z;
  depth[image * pixels + at] = z;
}
