// One pixel of one scene.
#pragma once
#include "generate.h"

// A camera as the package writes it: world_from_camera (3 x 4, y down) and intrinsics (fx, fy, cx, cy) in pixels.
struct PixelCamera {
  Vec3 eye, right, down, forward;
  float fx, fy, cx, cy;
};

// The generator's world has y up; reflecting y turns it into the package's right-handed y-down world.
DEVICE PixelCamera scene_camera(const Scene& s, int width, int height) {
  PixelCamera c;
  c.eye = vec(s.eye);
  c.right = vec(s.right);
  c.down = vec(s.up) * -1.f;
  c.forward = vec(s.forward);
  c.fx = width * .5f / s.tan_x;
  c.fy = height * .5f / s.tan_y;
  c.cx = width * .5f;
  c.cy = height * .5f;
  return c;
}

DEVICE void write_camera(const PixelCamera& c, float* out) {  // 12 + 4 numbers
  const Vec3 columns[4] = {c.right, c.down, c.forward, c.eye};
  for (int k = 0; k < 4; k++) {
    out[k] = columns[k].x;
    out[4 + k] = -columns[k].y;
    out[8 + k] = columns[k].z;
  }
  out[12] = c.fx;
  out[13] = c.fy;
  out[14] = c.cx;
  out[15] = c.cy;
}

DEVICE PixelCamera read_camera(const float* in) {
  PixelCamera c;
  c.right = vec(in[0], -in[4], in[8]);
  c.down = vec(in[1], -in[5], in[9]);
  c.forward = vec(in[2], -in[6], in[10]);
  c.eye = vec(in[3], -in[7], in[11]);
  c.fx = in[12];
  c.fy = in[13];
  c.cx = in[14];
  c.cy = in[15];
  return c;
}

// Linear light and z-depth of pixel (x, y). The first ray goes through the pixel's centre and gives the depth.
DEVICE_CALL Vec3 render_pixel(const World& w, const PixelCamera& c, int x, int y, int samples, u32 seed, float& depth) {
  Rng rng;
  rng.state = hash(seed + (u32)(y * 8192 + x));
  Vec3 sum = gray(0);
  for (int k = 0; k < samples; k++) {
    float u = x + (k ? uniform(rng) : .5f), v = y + (k ? uniform(rng) : .5f);
    Vec3 d = c.right * ((u - c.cx) / c.fx) + c.down * ((v - c.cy) / c.fy) + c.forward;
    float slant = length(d), t;
    Vec3 light = radiance(w, c.eye, d * (1 / slant), rng, k, t);
    sum = sum + vec(fminf(light.x, 8.f), fminf(light.y, 8.f), fminf(light.z, 8.f));
    if (k == 0) depth = t > 0 ? t / slant : INFINITY;
  }
  return sum * (1.f / samples);
}
