<%
# Publishing in the browser. Besides root, asset and query (see layout.tpl):
#   sent      what became of each file: its name, what is said of it, a link to its page if it was taken, whether it was
#   replaces  whether a file may take the place of another one of its name
#   limit     empty, or the size of the largest upload that is taken
#   wrong     empty, or why nothing was looked at
rebase("layout", title="Upload")
%>
<h1>Upload</h1>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% end
<p class="text">Wheels and sdists, as a build leaves them in <code>dist/</code>. Each is checked, and published whole or not at all; {{"another file of a name that is here takes its place" if replaces else "a file that is here already is never replaced by another one"}}.{{" A file has at most " + limit + "." if limit else ""}}
% if limit:
<noscript>So have all files of one upload together, for this browser runs no script.</noscript>
% end
</p>
<form class="fields" method="post" enctype="multipart/form-data" data-upload>
  <input type="hidden" name="csrf" value="{{csrf}}">
  <label for="files">Files</label>
  <input id="files" type="file" name="content" multiple required accept=".whl,.gz,.zip,.bz2,.xz,.tgz">
  <p class="buttons"><button>Upload</button></p>
</form>
<ul class="list sent" aria-live="polite" data-sent>
% for filename, said, link, taken in sent:
  <li>
%   if link:
    <a href="{{link}}"><bdi>{{filename}}</bdi></a>
%   else:
    <bdi>{{filename}}</bdi>
%   end
    <span class="{{"quiet" if taken else "mark"}}"><bdi>{{said}}</bdi></span>
  </li>
% end
</ul>
<script src="{{asset("upload.js")}}" defer></script>
