'use strict';
/* A form service: the fields of a form decide its schema, made for each request. */

const { packaged, serve } = require('./service');

const { z } = packaged('zod');

function schemaOf(form) {
  return z.object({
    name: z.string().min(form.least).describe(`name in ${form.title}`),
    age: z.number().int().describe(`age in ${form.title}`),
  });
}

serve(1, (n) => {
  const schema = schemaOf({ title: `form ${n}`, least: n % 3 });
  return schema.safeParse({ name: 'Ada Lovelace', age: 36 }).success;
});
