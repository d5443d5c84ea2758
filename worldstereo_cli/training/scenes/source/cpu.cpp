// The same program for one CPU thread, called through ctypes.
#include <vector>

#include "render.h"

extern "C" void struct_sizes(int* out) {
  out[0] = sizeof(Scene);
  out[1] = sizeof(Primitive);
  out[2] = sizeof(Material);
  out[3] = sizeof(Node);
}

static void generate_one(World& w, Scene& scene, Primitive* primitives, Material* materials, int* order, Node* nodes, u32 seed,
                         const float* mixture, float camera_spread, float aspect) {
  std::vector<u32> keys(MAX_PRIMITIVES);
  for (u32 attempt = 0; attempt < MAX_ATTEMPTS && !scene.valid; attempt++) {
    write_scene(scene, primitives, materials, w.library, seed, attempt, aspect, mixture, camera_spread);
    build_tree(primitives, scene, keys.data(), order, nodes, 0, 1);
    int buried = 0;
    for (int i = 0; i < scene.primitive_count; i++) buried += inside_solid(w, primitives[i], vec(scene.eye)) ? 1000 : 0;
    for (int i = 0; i < PROBE_RAYS; i++) buried += count_near(w, i);
    scene.valid = buried <= MAX_BURIED;
  }
}

extern "C" void render_images(int count, const Library* library, const u32* seeds, const float* mixture, float camera_spread, float* cameras, int given,
                              int width, int height, int samples, float* rgb, float* depth, int* info) {
  std::vector<Primitive> primitives(MAX_PRIMITIVES);
  std::vector<Material> materials(MAX_MATERIALS);
  std::vector<Node> nodes(2 * MAX_PRIMITIVES);
  std::vector<int> order(MAX_PRIMITIVES);
  size_t pixels = (size_t)width * height;
  for (int image = 0; image < count; image++) {
    Scene scene = {};
    World w = {&scene, primitives.data(), materials.data(), nodes.data(), order.data(), *library, 0};
    generate_one(w, scene, primitives.data(), materials.data(), order.data(), nodes.data(), seeds[image], mixture, camera_spread, (float)width / height);
    PixelCamera camera = given ? read_camera(cameras + image * 16) : scene_camera(scene, width, height);
    w.pixel = 1 / camera.fx;
    if (!given) write_camera(camera, cameras + image * 16);
    info[image * 3] = scene.category;
    info[image * 3 + 1] = scene.valid;
    info[image * 3 + 2] = scene.primitive_count;
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        float* out = rgb + image * 3 * pixels + (size_t)y * width + x;
        Vec3 light = render_pixel(w, camera, x, y, samples, seeds[image], depth[image * pixels + (size_t)y * width + x]);
        out[0] = light.x;
        out[pixels] = light.y;
        out[2 * pixels] = light.z;
      }
  }
}
