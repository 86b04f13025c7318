/* Opens, runs and frees again and again; ends with 0 if memory stays where it was. `rounds N` makes N rounds, 100 if nothing is said. */
#include <afterimage.h>
#include <stdio.h>
#include <stdlib.h>

/* Kilobytes that the process holds. */
static long resident(void) {
  long pages = 0, all = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &all, &pages) != 2) exit(1);
  fclose(file);
  return pages * 4;
}

int main(int count, char **words) {
  int rounds = count > 1 ? atoi(words[1]) : 100;
  afterimage_open_options options = {0};
  options.size = sizeof options;
  options.device = "cpu";
  const char *recipe = "{\"version\": 1, \"prompts\": [\"a red circle\"], \"seed\": 7, \"steps\": 1, \"size\": [64, 64]}";
  long settled = 0;
  for (int round = 1; round <= rounds; round++) {
    afterimage_model *model = NULL;
    afterimage_result *result = NULL;
    afterimage_error *error = NULL;
    char *json = NULL;
    uint8_t *pixels = NULL;
    if (afterimage_model_open("bundled", &options, &model, NULL) != AFTERIMAGE_CODE_OK) return 2;
    if (afterimage_run(model, recipe, NULL, NULL, &result, NULL) != AFTERIMAGE_CODE_OK) return 3;
    if (afterimage_result_take_rgba8(result, 0, 0, &pixels, NULL) != AFTERIMAGE_CODE_OK) return 4;
    if (afterimage_result_recipe(result, &json, NULL) != AFTERIMAGE_CODE_OK) return 5;
    if (afterimage_run(model, "{", NULL, NULL, &result, &error) != AFTERIMAGE_CODE_REQUEST) return 6;
    afterimage_error_free(error);
    afterimage_free(json);
    afterimage_free(pixels);
    afterimage_result_free(result);
    afterimage_model_free(model);
    if (round == (rounds + 4) / 5) settled = resident();
    if (round % 20 == 0 || round == rounds) printf("round %d: %ld kB\n", round, resident());
  }
  long grown = resident() - settled;
  printf("grown by %ld kB since a fifth of the rounds\n", grown);
  return grown > 8192;
}
