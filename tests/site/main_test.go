package main

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	files, err := fs.Sub(embedded, "pages")
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler(files).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer
}

func TestEveryPageIsServedUnderItsPath(t *testing.T) {
	for path := range pages {
		if answer := get(t, path); answer.Code != http.StatusOK || answer.Body.Len() == 0 {
			t.Errorf("%s: %d, %d bytes", path, answer.Code, answer.Body.Len())
		}
	}
	if answer := get(t, "/healthz"); answer.Code != http.StatusOK {
		t.Errorf("/healthz: %d", answer.Code)
	}
}

func TestAMissingPageIsNotFound(t *testing.T) {
	for _, path := range []string{"/nothing", "/index.html", "/main.go"} {
		if answer := get(t, path); answer.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, answer.Code)
		}
	}
}

func TestOnlyTheMetadataPageNamesAnotherHost(t *testing.T) {
	for path := range pages {
		if path == "/metadata" {
			continue
		}
		body := get(t, path).Body.String()
		for _, mark := range []string{"src=\"http", "href=\"http", "url(http", "fetch(", ".src", "//169.254"} {
			if strings.Contains(body, mark) {
				t.Errorf("%s has %q", path, mark)
			}
		}
	}
}
