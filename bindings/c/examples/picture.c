/* A picture from C: opens the bundled model, shows progress, and writes a PPM file.
 *
 *     cc picture.c $(pkg-config --cflags --libs afterimage) -o picture && ./picture "a green ring" ring.ppm
 */
#include <afterimage.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t progress(void *user_data, const afterimage_progress *told) {
  (void)user_data;
  fprintf(stderr, "\r%llu of %llu", (unsigned long long)told->done, (unsigned long long)told->total);
  return 0; /* anything else cancels */
}

/* Says what went wrong, and ends the program. */
static void check(afterimage_code code, afterimage_error **place) {
  if (code == AFTERIMAGE_CODE_OK) return;
  afterimage_error *error = *place;
  const char *hint = afterimage_error_hint(error);
  fprintf(stderr, "error: %s\n%s%s\n", afterimage_error_message(error), hint ? "hint: " : "", hint ? hint : "");
  afterimage_error_free(error);
  exit(1);
}

int main(int count, char **words) {
  const char *prompt = count > 1 ? words[1] : "a red circle above a blue square";
  const char *path = count > 2 ? words[2] : "picture.ppm";
  afterimage_error *error = NULL;

  afterimage_request *request = NULL;
  check(afterimage_request_new(&request, &error), &error);
  check(afterimage_request_add_prompt(request, prompt, &error), &error);
  check(afterimage_request_set_seed(request, 7, &error), &error);
  check(afterimage_request_set_steps(request, 12, &error), &error);
  check(afterimage_request_set_cache(request, "deepcache:interval=3,branch=0", &error), &error);
  char *recipe = NULL;
  check(afterimage_request_recipe(request, &recipe, &error), &error);
  afterimage_request_free(request);

  afterimage_model *model = NULL;
  check(afterimage_model_open("bundled", NULL, &model, &error), &error);
  afterimage_callbacks callbacks = {0};
  callbacks.size = sizeof callbacks;
  callbacks.progress = progress;
  afterimage_result *result = NULL;
  check(afterimage_run(model, recipe, &callbacks, NULL, &result, &error), &error);
  afterimage_free(recipe);

  afterimage_shape shape = {0};
  shape.size = sizeof shape;
  check(afterimage_result_shape(result, &shape, &error), &error);
  uint8_t *pixels = NULL;
  check(afterimage_result_take_rgba8(result, 0, 0, &pixels, &error), &error);
  FILE *file = fopen(path, "wb");
  if (file == NULL) return 1;
  fprintf(file, "P6 %llu %llu 255\n", (unsigned long long)shape.width, (unsigned long long)shape.height);
  for (size_t pixel = 0; pixel < shape.width * shape.height; pixel++) fwrite(pixels + pixel * 4, 1, 3, file);
  fclose(file);
  fprintf(stderr, "\n%s\n", path);

  afterimage_free(pixels);
  afterimage_result_free(result);
  afterimage_model_free(model);
  return 0;
}
