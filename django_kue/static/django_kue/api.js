// Swagger UI over the API's description. Its requests carry the CSRF token of whoever looks at the page.
(function () {
  "use strict";
  const place = document.getElementById("api");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function follow() {
    document.documentElement.classList.toggle("dark-mode", dark.matches);
  }

  dark.addEventListener("change", follow);
  follow();
  SwaggerUIBundle({
    url: place.dataset.schema,
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    validatorUrl: null, // asks no other site
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    requestInterceptor(request) {
      request.headers["X-CSRFToken"] = place.dataset.csrf;
      return request;
    },
  });
})();
